"""ResNet-18 on ImageNet in 16 epochs, small images first; in 88 epochs, more accurate than the standard recipe.

    python train.py --config configs/imagenet_fast.py --data.dir DIR --workdir runs/imagenet-fast
    resnet-jax evaluate runs/imagenet-fast --data.image-size 256 --tta flip

For 88 epochs: --train.epochs 88 --optimizer.warmup 0.023 --augment.small-share 0.807. For DIR, see imagenet.py; with
`--max-side 400`, as in the source, images are decoded faster.

Source: github.com/libffcv/ffcv-imagenet, rn18_configs, which publishes 66.9% after 16 epochs and 72.4% after 88 (35 and
187 minutes on one A100), evaluated at 256 pixels with the mirror. As there, the network blurs its maps before each
stride, and each epoch has images of the same size: the source rounds its ramp to multiples of 32, so that they have 160
pixels in the first 12 of 16 epochs, or 71 of 88, and then 192. Accuracy and time: not measured here.
"""

from dataclasses import replace

from imagenet import get_config as standard

from resnet_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return replace(
        standard(),
        model=ModelConfig(arch="blurpool_resnet18", stem="imagenet"),
        data=DataConfig(name="imagenet2012", image_size=192, resize=219),
        augment=AugmentConfig(crop_scale=0.08, flip="random", small_size=160, small_share=0.75),
        optimizer=OptimizerConfig(peak_learning_rate=0.5, weight_decay=5e-5, warmup=0.125, initial_factor=1e-4),
        train=TrainConfig(epochs=16, batch_size=1024, label_smoothing=0.1),
        evaluate=EvaluateConfig(every_epochs=4, batch_size=1000, tta="flip"),
    )
