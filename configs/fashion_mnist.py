"""ResNet-18 on Fashion-MNIST, 30 epochs; a twelfth of the training images chooses the best checkpoint.

    python train.py --config configs/fashion_mnist.py

Accuracy and time: not measured.
"""

from resnet_jax.config import AugmentConfig, Config, DataConfig, EvaluateConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(name="fashion_mnist", val_fraction=1 / 12),
        augment=AugmentConfig(crop_padding=2, flip="random", cutout=8),
        optimizer=OptimizerConfig(peak_learning_rate=0.1, schedule="cosine", warmup=0.1, clip_norm=5.0),
        train=TrainConfig(epochs=30, batch_size=128, label_smoothing=0.1, ema_decay=0.999),
        evaluate=EvaluateConfig(tta="flip"),
    )
