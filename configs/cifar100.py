"""ResNet-18 on CIFAR-100: the CIFAR-10 reference recipe without cutout, with label smoothing.

    python train.py --config configs/cifar100.py

Accuracy and time: not measured.
"""

from dataclasses import replace

from cifar10 import get_config as reference

from resnet_jax.config import AugmentConfig, Config, DataConfig, TrainConfig


def get_config() -> Config:
    return replace(
        reference(),
        data=DataConfig(name="cifar100"),
        augment=AugmentConfig(crop_padding=4, flip="random"),
        train=TrainConfig(epochs=200, batch_size=128, label_smoothing=0.1, ema_decay=0.999),
    )
