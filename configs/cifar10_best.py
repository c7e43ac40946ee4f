"""ResNet-18 on CIFAR-10, intended as the most accurate: 300 epochs with Muon.

    python train.py --config configs/cifar10_best.py

Like cifar10_96.py, but longer, with averaged weights and the larger cutout of the reference. Accuracy and time with
this code: not measured.
"""

from dataclasses import replace

from cifar10 import get_config as reference
from cifar10 import muon

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config, EvaluateConfig, TrainConfig


def get_config() -> Config:
    return replace(
        reference(),
        augment=AugmentConfig(crop_padding=4, flip="alternating", cutout=16),
        optimizer=muon(0.03),
        train=TrainConfig(epochs=300, batch_size=128, label_smoothing=0.1, ema_decay=0.9995),
        evaluate=EvaluateConfig(every_epochs=10, batch_size=2000, tta="full"),
        checkpoint=CheckpointConfig(every_epochs=10),
    )
