"""ResNet-18 on CIFAR-10, the 200-epoch reference recipe, and the base of the other CIFAR recipes.

    python train.py --config configs/cifar10.py

Source: github.com/KellerJordan/cifar10-airbench, its ResNet-18 baseline, which publishes 96.0% and 420 s on one A100.
Accuracy and time with this code: not measured.
"""

from resnet_jax.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return Config(
        data=DataConfig(name="cifar10"),
        augment=AugmentConfig(crop_padding=4, flip="random", cutout=16),
        optimizer=OptimizerConfig(peak_learning_rate=0.1, weight_decay=5e-4, warmup=0.2, initial_factor=0.2),
        train=TrainConfig(epochs=200, batch_size=128),
        evaluate=EvaluateConfig(every_epochs=10, tta="flip"),
        checkpoint=CheckpointConfig(every_epochs=10),
    )


def muon(rate: float) -> OptimizerConfig:
    """Return the optimizer of the recipes that train the convolutions with Muon, at a peak rate of `rate`."""
    return OptimizerConfig(
        peak_learning_rate=0.1,
        weight_decay=5e-4,
        warmup=0.2,
        initial_factor=0.2,
        momentum=0.95,
        muon_learning_rate=rate,
        muon_weight_decay=0.02,
    )
