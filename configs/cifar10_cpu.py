"""A narrow ResNet-18 (16 to 128 channels) on CIFAR-10, 7 epochs with Muon: what two CPU cores can do.

    python train.py --config configs/cifar10_cpu.py

On Linux, GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command makes it up to 1.5 times as fast (huge pages).
Chosen on images held out of train; LOG.md has what else was tried, and the accuracy on JPEG copies of the images.
"""

from dataclasses import replace

from cifar10 import get_config as reference

from resnet_jax.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return replace(
        reference(),
        model=ModelConfig(width=16),
        augment=AugmentConfig(crop_padding=2, flip="alternating"),
        optimizer=OptimizerConfig(
            peak_learning_rate=0.1,
            weight_decay=5e-4,
            muon_learning_rate=0.02,
            muon_weight_decay=0.02,
            momentum=0.95,
            warmup=0.2,
            initial_factor=0.2,
        ),
        train=TrainConfig(epochs=7, batch_size=64),
        evaluate=EvaluateConfig(every_epochs=2, tta="flip"),
        checkpoint=CheckpointConfig(),
    )
