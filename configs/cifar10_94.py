"""ResNet-18 on CIFAR-10, meant to be the shortest way to 94%: 16 epochs with Muon.

    python train.py --config configs/cifar10_94.py
    resnet-jax record --config configs/cifar10_94.py --runs 5    # timed, as speed records are

cifar10_fast.py takes 26 epochs of SGD. On the narrow network of cifar10_cpu.py 7 epochs of Muon do more than 12 of SGD,
hence 16. The first 8 have images of 24x24 pixels, little more than half the arithmetic: for the same arithmetic in all,
the narrow network ends a point higher so than with fewer epochs at full size (LOG.md). The flip alternates, as in
arXiv:2404.00498. Not measured at this width yet.
"""

from dataclasses import replace

from cifar10_cpu import get_config as narrow

from resnet_jax.config import AugmentConfig, CheckpointConfig, Config, EvaluateConfig, ModelConfig, TrainConfig


def get_config() -> Config:
    config = narrow()
    return replace(
        config,
        model=ModelConfig(),
        augment=AugmentConfig(crop_padding=4, flip="alternating", small_size=24),
        optimizer=replace(config.optimizer, muon_learning_rate=0.03),
        train=TrainConfig(epochs=16, batch_size=128),
        evaluate=EvaluateConfig(every_epochs=16, batch_size=2000, tta="full"),
        checkpoint=CheckpointConfig(every_epochs=16),
    )
