"""ResNet-18 on ImageNet at 64x64 pixels, 40 epochs: a smaller test of ImageNet's recipes, on one large GPU.

    python train.py --config configs/imagenet64.py --data.dir DIR

DIR holds `imagenet_resized/64x64` as TensorFlow Datasets prepares it. Its 1,281,167 training images take 15.7 GB in the
memory of the host and of the device; `--data.feed stream` needs neither. With the stem for small images, the network
has 2.2 billion multiply-adds for an image, more than at 224 pixels with the usual one.

Source of the data: Chrabaszcz et al. 2017, arXiv:1707.08819. No figure of ResNet-18 is known. The classes are in
another order than in torchvision's weights, which can't be the teacher therefore. Accuracy and time: not measured here.
"""

from resnet_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return Config(
        data=DataConfig(name="imagenet_resized/64x64"),
        augment=AugmentConfig(crop_padding=8, flip="random"),
        optimizer=OptimizerConfig(peak_learning_rate=0.4, weight_decay=1e-4, warmup=0.1, initial_factor=0.1),
        train=TrainConfig(epochs=40, batch_size=1024, label_smoothing=0.1),
        evaluate=EvaluateConfig(every_epochs=5, batch_size=1000, tta="flip"),
    )
