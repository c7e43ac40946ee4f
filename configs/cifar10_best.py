"""ResNet-18 on CIFAR-10, meant to be the most accurate: 300 epochs with Muon.

    python train.py --config configs/cifar10_best.py

The recipe of cifar10_96.py with averaged weights and the larger cutout of the reference. Not measured here yet.
"""

from dataclasses import replace

from cifar10_96 import get_config as long

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config


def get_config() -> Config:
    config = long()
    return replace(
        config,
        augment=AugmentConfig(crop_padding=4, flip="alternating", cutout=16),
        train=replace(config.train, epochs=300, ema_decay=0.9995),
        evaluate=replace(config.evaluate, every_epochs=10),
        checkpoint=CheckpointConfig(every_epochs=10),
    )
