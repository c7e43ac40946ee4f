"""ResNet-18 on ImageNet, intended as the most accurate: 450 epochs, taught by a ResNet-50 through DIST.

    python train.py --config configs/imagenet_best.py --data.dir DIR --workdir runs/imagenet-best
    resnet-jax evaluate runs/imagenet-best --data.image-size 288

The teacher, torchvision's ResNet-50 with 80.86%, is downloaded on first use; its forward pass adds three quarters to
the arithmetic of a step. For DIR, see imagenet.py.

Source: Huang et al. 2022, arXiv:2205.10536, with their strong training strategy, which publishes 74.5% from another
ResNet-50 (80.1%). Theirs has RMSprop and dropout; optimizer and rate here are those of imagenet_fast.py. Accuracy and
time: not measured here.
"""

from dataclasses import replace

from imagenet import get_config as standard

from resnet_jax.config import AugmentConfig, Config, OptimizerConfig, TrainConfig


def get_config() -> Config:
    return replace(
        standard(),
        augment=AugmentConfig(crop_scale=0.08, flip="random", rand_augment=9, erasing=0.2),
        optimizer=OptimizerConfig(
            peak_learning_rate=0.5, weight_decay=5e-5, schedule="cosine", warmup=0.01, initial_factor=0.01
        ),
        train=TrainConfig(
            epochs=450,
            batch_size=1024,
            label_smoothing=0.1,
            ema_decay=0.9999,
            teacher="torchvision/resnet50.IMAGENET1K_V2",
            distillation="dist",
        ),
    )
