"""ResNet-18, full width, on the 1,797 handwritten digits of scikit-learn: needs no download.

    python train.py --config configs/digits.py

One to two minutes on two CPU cores. Accuracy over three seeds: docs/results.md; how the recipe was chosen: LOG.md.
"""

from resnet_jax.config import AugmentConfig, Config, DataConfig, EvaluateConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(name="digits"),
        augment=AugmentConfig(crop_padding=1),
        optimizer=OptimizerConfig(peak_learning_rate=0.05, weight_decay=5e-4),
        train=TrainConfig(epochs=30, batch_size=64, label_smoothing=0.1, ema_decay=0.99),
        evaluate=EvaluateConfig(every_epochs=5),
    )
