"""Narrow networks (16 to 128 channels) on Fashion-MNIST, 2 epochs: what shortcuts are worth at 18 and 34 layers.

    python train.py --config configs/fashion_mnist_narrow.py --model.arch plain34
    resnet-jax compare --archs resnet18,plain18,resnet34,plain34 --train configs/fashion_mnist_narrow.py --seeds 3

Source: He et al. 2015, arXiv:1512.03385, section 4.1, which does this on ImageNet at full width. Every network has the
same recipe, without an average of the weights and without a choice of the best checkpoint.
Expected: over an hour on two CPU cores for the twelve trainings, half of it or more for those of 34 layers, from 377
(34 layers) and 560 images/s (18). Accuracy over three seeds: resnet18 90.49% (sd 0.16), plain18 90.51% (sd 0.30),
resnet34 90.62% (sd 0.35), plain34 88.43% (sd 0.38).
"""

from resnet_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return Config(
        model=ModelConfig(width=16),
        data=DataConfig(name="fashion_mnist"),
        augment=AugmentConfig(crop_padding=2, flip="random"),
        optimizer=OptimizerConfig(peak_learning_rate=0.05, weight_decay=5e-4),
        train=TrainConfig(epochs=2, batch_size=64),
    )
