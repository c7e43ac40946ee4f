"""ResNet-18 on ImageNet, 90 epochs of SGD: the standard recipe, and the base of the other ImageNet recipes.

    resnet-jax prepare imagenet2012 --from ARCHIVES --dir DIR     # the two tar files of image-net.org
    python train.py --config configs/imagenet.py --data.dir DIR

Expected: near 69.76% (top-5 89.08%), torchvision's published weights ResNet18_Weights.IMAGENET1K_V1, whose recipe
(github.com/pytorch/vision, references/classification) this is, but for a cosine in the place of steps of 30 epochs,
Nesterov's momentum, and no decay of biases and BatchNorm. Accuracy and time: not measured here.

On 256 TPU v5e (`resnet-jax plan --target v5e:16x16`) a batch of 256 fits, one image on a chip. Exchanging data takes at
least 0.82 ms, all of the time of a step. It is 12% of it with a batch of 32,768 and 5% with 65,536, so less than 10%
from about 37,000 images on. See docs/scale.md.
"""

from resnet_jax.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return Config(
        model=ModelConfig(stem="imagenet"),
        data=DataConfig(name="imagenet2012", image_size=224, resize=256),
        augment=AugmentConfig(crop_scale=0.08, flip="random"),
        optimizer=OptimizerConfig(
            peak_learning_rate=0.1, weight_decay=1e-4, schedule="cosine", warmup=0.02, initial_factor=0.1
        ),
        train=TrainConfig(epochs=90, batch_size=256),
        evaluate=EvaluateConfig(batch_size=1000),
        checkpoint=CheckpointConfig(),
    )
