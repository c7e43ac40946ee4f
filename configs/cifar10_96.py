"""ResNet-18 on CIFAR-10, intended as the shortest way to 96%: 48 epochs with Muon.

    python train.py --config configs/cifar10_96.py
    resnet-jax record --config configs/cifar10_96.py --runs 5    # timed like published speed records

Three times as long as cifar10_94.py and all of it at full size, with cutout against overfitting and a little label
smoothing. Published with SGD: 80 epochs, github.com/KellerJordan/cifar10-zoo. Accuracy and time with this code: not
measured.
"""

from dataclasses import replace

from cifar10 import get_config as reference
from cifar10 import muon

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config, EvaluateConfig, TrainConfig


def get_config() -> Config:
    return replace(
        reference(),
        augment=AugmentConfig(crop_padding=4, flip="alternating", cutout=12),
        optimizer=muon(0.03),
        train=TrainConfig(epochs=48, batch_size=128, label_smoothing=0.1),
        evaluate=EvaluateConfig(every_epochs=12, batch_size=2000, tta="full"),
        checkpoint=CheckpointConfig(every_epochs=12),
    )
