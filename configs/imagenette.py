"""ResNet-18 from scratch on Imagenette, ten classes of ImageNet: the smallest test of ImageNet's way of input.

    wget https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz && tar xf imagenette2-320.tgz
    python train.py --config configs/imagenette.py --data.dir imagenette2-320

9,469 training and 3,925 test images, streamed: eight processes decode and crop them for each step. With fewer than nine
processor cores, `--data.workers None` chooses their number.

Source: the sizes and the crops of github.com/fastai/imagenette, whose best network, a changed XResNet-50, has 94.50%
at 192 pixels after 80 epochs (one run). ResNet-18 with this code: not measured here.
"""

from pathlib import Path

from resnet_jax.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


def get_config() -> Config:
    return Config(
        model=ModelConfig(stem="imagenet"),
        data=DataConfig(
            source="folder", dir=Path("imagenette2-320"), image_size=192, resize=220, feed="stream", workers=8
        ),
        augment=AugmentConfig(crop_scale=0.35, flip="random"),
        optimizer=OptimizerConfig(peak_learning_rate=0.1, weight_decay=5e-4, schedule="cosine", warmup=0.1),
        train=TrainConfig(epochs=80, batch_size=128, label_smoothing=0.1),
        evaluate=EvaluateConfig(every_epochs=5, batch_size=128),
        checkpoint=CheckpointConfig(every_epochs=5),
    )
