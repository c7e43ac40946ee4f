"""A pretrained ResNet-18 fine-tuned on a folder of images, whose subfolders are the classes.

    python train.py --config configs/finetune.py --data.dir PHOTOS [--model.pretrained SOURCE]

SOURCE is a .pth or .safetensors file, a run folder or a published name; ImageNet's weights are downloaded on first use.
With `--optimizer.layer-factor 0` only the new classifier is trained. Accuracy depends on the images; not measured.
"""

from pathlib import Path

from resnet_jax.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return Config(
        # Recomputing lets larger networks and images fit a small GPU: ResNet-50's step takes 1/6 less memory (LOG.md).
        model=ModelConfig(stem="imagenet", recompute=True, pretrained="torchvision/resnet18.IMAGENET1K_V1"),
        data=DataConfig(source="folder", dir=Path("photos"), image_size=224),
        augment=AugmentConfig(crop_padding=16, flip="random"),
        # Smaller steps below the new classifier: early stages have less to learn.
        optimizer=OptimizerConfig(peak_learning_rate=0.02, weight_decay=1e-4, schedule="cosine", layer_factor=0.7),
        train=TrainConfig(epochs=15, batch_size=32, label_smoothing=0.1),
        evaluate=EvaluateConfig(batch_size=64, tta="flip"),
    )
