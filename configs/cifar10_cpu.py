"""A narrow ResNet-18 (16 to 128 channels) on CIFAR-10, 7 epochs with Muon, for two CPU cores.

    python train.py --config configs/cifar10_cpu.py

About 15 minutes on two CPU cores. On Linux, GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command makes it up to 1.5
times as fast (huge pages). The recipe was chosen on images held out of the training set; LOG.md lists what else was
tried. Accuracy, on JPEG copies of the images: docs/results.md.
"""

from dataclasses import replace

from cifar10 import get_config as reference
from cifar10 import muon

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config, EvaluateConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    return replace(
        reference(),
        model=ModelConfig(width=16),
        augment=AugmentConfig(crop_padding=2, flip="alternating"),
        optimizer=muon(0.02),
        train=TrainConfig(epochs=7, batch_size=64),
        evaluate=EvaluateConfig(every_epochs=2, tta="flip"),
        checkpoint=CheckpointConfig(),
    )
