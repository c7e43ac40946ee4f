"""ResNet-18 on ImageNet, the longest recipe of "ResNet strikes back": 600 epochs with LAMB, mixed images, no teacher.

    python train.py --config configs/imagenet_a1.py --data.dir DIR --workdir runs/imagenet-a1
    resnet-jax evaluate runs/imagenet-a1 --data.image-size 288

Images are mixed by mixup or cutmix at every step, and the loss asks of each class whether it is in the image: the
training accuracy, whether the larger part is recognized, stays below the test accuracy. For DIR, see imagenet.py.

Source: Wightman et al. 2021, arXiv:2110.00476, recipe A1, with which timm publishes 71.50% at 224 pixels and 73.16% at
288. Not here: repeated augmentation, and a RandAugment whose magnitude varies. Accuracy and time: not measured here.
"""

from dataclasses import replace

from imagenet import get_config as standard

from resnet_jax.config import AugmentConfig, Config, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return replace(
        standard(),
        model=ModelConfig(stem="imagenet", drop_path=0.05),
        augment=AugmentConfig(crop_scale=0.08, flip="random", rand_augment=7, mixup=0.2, cutmix=1.0),
        optimizer=OptimizerConfig(
            method="lamb",
            peak_learning_rate=5e-3,
            weight_decay=0.01,
            schedule="cosine",
            warmup=5 / 600,
            initial_factor=0.02,
            clip_norm=1.0,
        ),
        train=TrainConfig(epochs=600, batch_size=2048, loss="bce"),
    )
