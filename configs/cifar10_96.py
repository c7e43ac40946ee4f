"""ResNet-18 on CIFAR-10, meant to be the shortest way to 96%: 48 epochs with Muon.

    python train.py --config configs/cifar10_96.py
    resnet-jax record --config configs/cifar10_96.py --runs 5    # timed, as speed records are

The recipe of cifar10_94.py for three times as long, all of it at full size, with cutout against overfitting and a
little label smoothing. github.com/KellerJordan/cifar10-zoo takes 80 epochs with SGD. Not measured here yet.
"""

from dataclasses import replace

from cifar10_94 import get_config as shortest

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config


def get_config() -> Config:
    config = shortest()
    return replace(
        config,
        augment=AugmentConfig(crop_padding=4, flip="alternating", cutout=12),
        train=replace(config.train, epochs=48, label_smoothing=0.1),
        evaluate=replace(config.evaluate, every_epochs=12),
        checkpoint=CheckpointConfig(every_epochs=12),
    )
