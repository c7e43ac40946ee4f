"""ResNet-18, full width, on the 1,797 handwritten digits of scikit-learn: needs no download.

python train.py --config configs/digits.py
"""

from resnet_jax.config import AugmentConfig, Config, DataConfig, EvaluateConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(name="digits"),
        augment=AugmentConfig(crop_padding=1),
        optimizer=OptimizerConfig(peak_learning_rate=0.05, weight_decay=5e-4),
        train=TrainConfig(epochs=20, batch_size=64, cpu_devices=1),
        evaluate=EvaluateConfig(every_epochs=5),
    )
