"""The configuration of a run: frozen dataclasses by section, and the one place with defaults.

A recipe in `configs/` is a `get_config() -> Config`; the command line overrides fields as `--section.field value`.
`None` means off, or chosen by the trainer where a field says so.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resnet_jax.errors import UsageError

Architecture = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
]


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    arch: Architecture = "resnet18"
    """Member of the ResNet family, by torchvision's name."""
    stem: Literal["imagenet", "cifar"] = "cifar"
    """"imagenet": 7x7 convolution of stride 2 and max pooling; "cifar": 3x3 of stride 1, for images near 32x32."""
    width: int = 64
    """Channels of the first stage; 64 is the published network."""
    zero_init: bool = False
    """Start the last BatchNorm scale of each block at 0, so that each block starts as the identity."""
    recompute: bool = False
    """Compute the maps between a block's convolutions again in the backward pass, to save a GPU's memory."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the computation. None: bfloat16 on TPU and GPU, float32 on CPU."""
    pretrained: str | None = None
    """Weights under the new classifier: a weights file, a run folder or a published name. None: random weights."""

    def __post_init__(self):
        _require(self.width >= 1, "--model.width", self.width, "at least 1 channel")


@dataclass(frozen=True)
class DataConfig:
    """The images."""

    source: Literal["tfds", "folder"] = "tfds"
    """"tfds": a TensorFlow Datasets name; "folder": images in class subfolders of --data.dir."""
    name: str = "digits"
    """TFDS name: digits (needs no download), cifar10, cifar100, mnist, fashion_mnist, or any prepared set."""
    dir: Path | None = None
    """Folder of the prepared sets, or of the images. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    image_size: int | None = None
    """Height and width in pixels; images are resized and centre-cropped to it. None: as stored."""
    val_fraction: float | None = None
    """Share of the training images held out to choose the best checkpoint by. None: train on all, keep the latest."""

    def __post_init__(self):
        _require(self.source == "tfds" or self.dir is not None, "--data.dir", None, "the image folder's path")
        _require(self.image_size is None or self.image_size >= 1, "--data.image-size", self.image_size, "1 or more")
        _require(
            self.val_fraction is None or 0 < self.val_fraction < 1,
            "--data.val-fraction",
            self.val_fraction,
            "in (0, 1)",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to the training images, on the device."""

    crop_padding: int | None = None
    """Pixels of reflect padding before a random crop back to size. None: no crop."""
    flip: Literal["none", "random", "alternating"] = "none"
    """Horizontal flip: each time at random, or at random once and then the other way on every next epoch."""
    cutout: int | None = None
    """Side in pixels of a square set to the mean colour, at a random place. None: no cutout."""
    small_size: int | None = None
    """Pixels of a side that the images are shrunk to in the first epochs. None: full size from the start."""
    small_share: float = 0.5
    """Share of the epochs, rounded, that have images of --augment.small-size."""

    def __post_init__(self):
        _require(
            self.crop_padding is None or self.crop_padding >= 1, "--augment.crop-padding", self.crop_padding, ">= 1"
        )
        _require(self.cutout is None or self.cutout >= 1, "--augment.cutout", self.cutout, "at least 1 pixel")
        _require(self.small_size is None or self.small_size >= 1, "--augment.small-size", self.small_size, "1 or more")
        _require(0 < self.small_share < 1, "--augment.small-share", self.small_share, "a share in (0, 1)")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with Nesterov momentum, in the form of PyTorch: decay is added to the gradient of the mean loss. Or Muon."""

    peak_learning_rate: float = 0.1
    """The schedule's highest rate."""
    schedule: Literal["triangular", "cosine", "step"] = "triangular"
    """After the warm-up: linear to 0, cosine to 0, or a tenth after each third of the training."""
    warmup: float = 0.2
    """Share of the training in which the rate rises linearly to its peak, 0 to 1."""
    initial_factor: float = 0.2
    """The rate at the first step of the warm-up, as a share of the peak."""
    momentum: float = 0.9
    """Share of the last update kept."""
    weight_decay: float = 5e-4
    """L2 penalty's factor on convolution and linear kernels; none on biases and BatchNorm."""
    muon_learning_rate: float | None = None
    """Peak rate of Muon, which then trains the convolutions; SGD trains the rest. None: SGD trains everything."""
    muon_weight_decay: float = 0.0
    """Share of a convolution's kernel that Muon takes off at each step, times its learning rate."""
    clip_norm: float | None = None
    """Largest global norm of the gradients; longer ones are scaled down. None: no clipping."""
    layer_factor: float = 1.0
    """Each stage's rate as a share of the next one's, down from the classifier; 0 freezes all but the classifier."""
    accumulate: int = 1
    """Parts that a batch's gradient is computed in, one after another, to save memory; BatchNorm sees one part."""

    def __post_init__(self):
        _require(self.peak_learning_rate > 0, "--optimizer.peak-learning-rate", self.peak_learning_rate, "above 0")
        _require(0 <= self.warmup < 1, "--optimizer.warmup", self.warmup, "a share in [0, 1)")
        _require(0 <= self.initial_factor <= 1, "--optimizer.initial-factor", self.initial_factor, "a share in [0, 1]")
        _require(0 <= self.momentum < 1, "--optimizer.momentum", self.momentum, "a share in [0, 1)")
        _require(self.weight_decay >= 0, "--optimizer.weight-decay", self.weight_decay, "0 or more")
        _require(
            self.muon_learning_rate is None or self.muon_learning_rate > 0,
            "--optimizer.muon-learning-rate",
            self.muon_learning_rate,
            "above 0",
        )
        _require(self.muon_weight_decay >= 0, "--optimizer.muon-weight-decay", self.muon_weight_decay, "0 or more")
        _require(self.clip_norm is None or self.clip_norm > 0, "--optimizer.clip-norm", self.clip_norm, "above 0")
        _require(0 <= self.layer_factor <= 1, "--optimizer.layer-factor", self.layer_factor, "a share in [0, 1]")
        _require(self.accumulate >= 1, "--optimizer.accumulate", self.accumulate, "1 or more")


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    epochs: int = 20
    """Passes over the training images; the incomplete last batch of each pass is left out."""
    batch_size: int = 128
    """Images in a step, over all devices together."""
    seed: int = 0
    """Decides the initial weights, the order of the images and their augmentation."""
    label_smoothing: float = 0.0
    """Share of the probability spread evenly over all classes, in [0, 1)."""
    ema_decay: float | None = None
    """Share of the averaged weights kept at each step; the average is then what is evaluated. None: no average."""
    steps_per_dispatch: int | None = None
    """Steps in one call to the device. None: on TPU and GPU 25 to 100, a divisor of the epoch; 1 on CPU."""
    cpu_devices: int | None = None
    """Devices that JAX splits a CPU into. None: one per two cores, with at least 32 images each; ignored elsewhere."""

    def __post_init__(self):
        _require(self.epochs >= 1, "--train.epochs", self.epochs, "1 or more")
        _require(self.batch_size >= 2, "--train.batch-size", self.batch_size, "2 or more, for BatchNorm")
        _require(0 <= self.label_smoothing < 1, "--train.label-smoothing", self.label_smoothing, "a share in [0, 1)")
        _require(self.ema_decay is None or 0 < self.ema_decay < 1, "--train.ema-decay", self.ema_decay, "in (0, 1)")
        _require(
            self.steps_per_dispatch is None or self.steps_per_dispatch >= 1,
            "--train.steps-per-dispatch",
            self.steps_per_dispatch,
            "1 or more",
        )
        _require(
            self.cpu_devices is None or self.cpu_devices >= 1, "--train.cpu-devices", self.cpu_devices, "1 or more"
        )


@dataclass(frozen=True)
class EvaluateConfig:
    """The evaluation: every image once, at any batch size."""

    every_epochs: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: int = 500
    """Images in an evaluation step, over all devices together."""
    tta: Literal["none", "flip", "full"] = "none"
    """Test-time augmentation at the end, reported beside the plain figures: mirror; mirror and two diagonal shifts."""

    def __post_init__(self):
        _require(self.every_epochs >= 1, "--evaluate.every-epochs", self.every_epochs, "1 or more")
        _require(self.batch_size >= 1, "--evaluate.batch-size", self.batch_size, "1 or more")


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints, written beside the training at evaluations, at the end, and when the run is interrupted."""

    keep: int = 2
    """Latest checkpoints kept."""
    every_epochs: int = 1
    """Epochs between checkpoints."""

    def __post_init__(self):
        _require(self.keep >= 1, "--checkpoint.keep", self.keep, "1 or more")
        _require(self.every_epochs >= 1, "--checkpoint.every-epochs", self.every_epochs, "1 or more")


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self):
        _require(
            self.train.batch_size % self.optimizer.accumulate == 0,
            "--optimizer.accumulate",
            self.optimizer.accumulate,
            f"a divisor of --train.batch-size {self.train.batch_size}",
        )

    @property
    def small_epochs(self) -> int:
        """The first epochs, whose images are shrunk."""
        return 0 if self.augment.small_size is None else round(self.augment.small_share * self.train.epochs)


def as_dict(config: Config) -> dict[str, Any]:
    """The configuration as nested dictionaries of JSON's types."""
    return {
        section.name: {
            key: str(value) if isinstance(value, Path) else value
            for key, value in dataclasses.asdict(getattr(config, section.name)).items()
        }
        for section in dataclasses.fields(config)
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The fields in which two configurations differ, as `section.field: old -> new`."""
    flat_old, flat_new = (
        {f"{section}.{key}": value for section, fields in config.items() for key, value in fields.items()}
        for config in (old, new)
    )
    missing = "absent"
    return [
        f"{key}: {flat_old.get(key, missing)} -> {flat_new.get(key, missing)}"
        for key in sorted(flat_old | flat_new)
        if flat_old.get(key, missing) != flat_new.get(key, missing)
    ]


def _require(holds: bool, option: str, got: object, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{option}: got {got}, wanted {wanted}")
