"""The configuration of a run: frozen dataclasses by section, and the one place with defaults.

A recipe in `configs/` is a function `get_config() -> Config`; the command line overrides fields as
`--section.field value`. `None` means off, or a choice that `resnet_jax.training.setup` makes when the run starts; the
field says which.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import tyro

from resnet_jax.errors import UsageError
from resnet_jax.models.registry import Architecture, Stem


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    arch: Architecture = "resnet18"
    """Name of the network, as in torchvision; `resnet-jax list` shows all."""
    stem: Stem = "cifar"
    """"imagenet": as published (ResNets: 7x7 of stride 2, pooling); "cifar": for images near 32x32 (3x3, stride 1)."""
    width: int = 64
    """Channels of a ResNet's first stage; 64 is the published network, and the only one of other networks."""
    recompute: bool = False
    """Compute the maps inside a block again in the backward pass, which saves memory on a GPU."""
    drop_path: float = 0.0
    """Probability with which an image skips a ResNet's last block in training; less in earlier ones, down to 0."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Type of the computation. By default bfloat16 on TPU and GPU, float32 on CPU."""
    pretrained: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Weights to start from, with a new classifier: a weights file, a run folder or a published name."""

    def __post_init__(self):
        _require("--model.width", self.width, lambda it: it >= 1, "1 channel or more")
        _require("--model.drop-path", self.drop_path, lambda it: 0 <= it < 1, "a probability in [0, 1)")


@dataclass(frozen=True)
class DataConfig:
    """The images."""

    source: Literal["tfds", "folder"] = "tfds"
    """"tfds": a TensorFlow Datasets name; "folder": images in class folders of --data.dir, which is also detected."""
    name: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """TFDS name: digits (needs no download), cifar10, cifar100, mnist, fashion_mnist, or any prepared set."""
    dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the prepared sets, or of the images. By default $TFDS_DATA_DIR, or else ~/tensorflow_datasets."""
    image_size: int | None = None
    """Height and width in pixels; images are resized and center-cropped to it. By default as stored."""
    resize: int | None = None
    """Pixels of the shorter side before the center crop. By default --data.image-size."""
    feed: Literal["resident", "stream"] | None = None
    """"resident": decoded, on the devices; "stream": decoded anew for each step. By default resident if that fits."""
    workers: int | None = None
    """Processes that decode a stream; 0 for threads. By default one for each core but one, on a CPU device threads."""
    val_fraction: float | None = None
    """Share of the training images held out to choose the best checkpoint. By default none: the last one is used."""

    def __post_init__(self):
        if self.source == "folder" and self.dir is None:
            raise UsageError("--data.dir: got nothing, expected the path of the image folder")
        _require("--data.image-size", self.image_size, lambda it: it >= 1, "1 pixel or more")
        if self.resize is not None and (self.image_size is None or self.resize < self.image_size):
            raise UsageError(f"--data.resize: got {self.resize}, expected --data.image-size, and at least its pixels")
        _require("--data.workers", self.workers, lambda it: it >= 0, "0 or more")
        _require("--data.val-fraction", self.val_fraction, lambda it: 0 < it < 1, "a share in (0, 1)")


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of the training images, on the device except for --augment.crop-scale."""

    crop_scale: float | None = None
    """Least share of a stored image's area that a random-resized crop takes; 1 is the most. By default no such crop."""
    crop_padding: int | None = None
    """Pixels of reflect padding before a random crop back to size. By default no crop."""
    flip: Literal["none", "random", "alternating"] = "none"
    """Horizontal flip: random in each epoch; or random in the first epoch, and alternating from then on."""
    cutout: int | None = None
    """Side in pixels of a square at a random place that is set to the mean color. By default no cutout."""
    rand_augment: int | None = None
    """Magnitude, from 0 to 30, of two random operations on each image (RandAugment). By default none."""
    erasing: float | None = None
    """Probability that a random rectangle of an image is set to the mean color. By default none."""
    mixup: float | None = None
    """Mix each image with another, by shares from Beta(a, a), where a is this number. By default no mixup."""
    cutmix: float | None = None
    """Paste a rectangle of another image, likewise; beside mixup, on half of the steps. By default no cutmix."""
    small_size: int | None = None
    """Side in pixels to which images are shrunk in the first epochs. By default full size from the start."""
    small_share: float = 0.5
    """Share of the epochs, rounded to whole epochs, that use images of --augment.small-size."""

    def __post_init__(self):
        _require("--augment.crop-scale", self.crop_scale, lambda it: 0 < it <= 1, "a share in (0, 1]")
        _require("--augment.crop-padding", self.crop_padding, lambda it: it >= 1, "1 pixel or more")
        _require("--augment.cutout", self.cutout, lambda it: it >= 1, "1 pixel or more")
        _require("--augment.rand-augment", self.rand_augment, lambda it: 0 <= it <= 30, "a magnitude from 0 to 30")
        _require("--augment.erasing", self.erasing, lambda it: 0 < it <= 1, "a probability in (0, 1]")
        _require("--augment.mixup", self.mixup, lambda it: it > 0, "a number above 0")
        _require("--augment.cutmix", self.cutmix, lambda it: it > 0, "a number above 0")
        _require("--augment.small-size", self.small_size, lambda it: it >= 1, "1 pixel or more")
        _require("--augment.small-share", self.small_share, lambda it: 0 < it < 1, "a share in (0, 1)")


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with Nesterov momentum in PyTorch's form (decay is added to the gradient of the mean loss), LAMB, or Muon."""

    method: Literal["sgd", "lamb"] = "sgd"
    """"sgd", or "lamb": Adam, with updates of kernels that are scaled to their length."""
    peak_learning_rate: float = 0.1
    """Highest rate of the schedule."""
    schedule: Literal["triangular", "cosine"] = "triangular"
    """Decay after the warm-up: linear to 0, or along half a cosine to 0."""
    warmup: float = 0.2
    """Share of the training, from 0 to 1, in which the rate rises linearly to its peak."""
    initial_factor: float = 0.2
    """Rate at the first step of the warm-up, as a share of the peak."""
    momentum: float = 0.9
    """Share of the last update kept."""
    weight_decay: float = 5e-4
    """Factor of the L2 penalty on convolution and linear kernels; biases and BatchNorm have none."""
    muon_learning_rate: float | None = None
    """Peak rate of Muon for the convolutions; the method trains the rest. By default one method trains all."""
    muon_weight_decay: float = 0.0
    """Share of a convolution's kernel that Muon subtracts at each step, times its learning rate."""
    clip_norm: float | None = None
    """Largest global norm of the gradients; larger ones are scaled down. By default no clipping."""
    layer_factor: float = 1.0
    """Rate of each stage as a share of the next one's, down from the classifier; 0 freezes all but the classifier."""

    def __post_init__(self):
        for option, value in (("peak", self.peak_learning_rate), ("muon", self.muon_learning_rate)):
            _require(f"--optimizer.{option}-learning-rate", value, lambda it: it > 0, "a rate above 0")
        for option, value in (("weight", self.weight_decay), ("muon-weight", self.muon_weight_decay)):
            _require(f"--optimizer.{option}-decay", value, lambda it: it >= 0, "0 or more")
        _require("--optimizer.warmup", self.warmup, lambda it: 0 <= it < 1, "a share in [0, 1)")
        _require("--optimizer.initial-factor", self.initial_factor, lambda it: 0 <= it <= 1, "a share in [0, 1]")
        _require("--optimizer.momentum", self.momentum, lambda it: 0 <= it < 1, "a share in [0, 1)")
        _require("--optimizer.clip-norm", self.clip_norm, lambda it: it > 0, "a norm above 0")
        _require("--optimizer.layer-factor", self.layer_factor, lambda it: 0 <= it <= 1, "a share in [0, 1]")


@dataclass(frozen=True)
class TrainConfig:
    """The training run."""

    epochs: int = 20
    """Passes over the training images; the incomplete last batch of each pass is left out."""
    batch_size: int = 128
    """Images in a step, over all devices together."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and their augmentation."""
    loss: Literal["cross_entropy", "bce"] = "cross_entropy"
    """Loss of the labels: "cross_entropy", one class in an image; "bce", each class is present or not."""
    label_smoothing: float = 0.0
    """Share of the probability spread evenly over all classes, in [0, 1)."""
    ema_decay: float | None = None
    """Share of the averaged weights kept at each step; the average is then evaluated. By default no average."""
    teacher: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Trained network to learn from too: a run folder, a weights file or a published name. By default none."""
    distillation: Literal["logits", "dist"] = "logits"
    """Loss of the teacher: "logits", divergence from its probabilities; "dist", lack of correlation with them."""
    distillation_weight: float = 1.0
    """Factor of the teacher's loss, which is added to that of the labels."""
    temperature: float = 1.0
    """Divisor of the logits in the teacher's loss, which is multiplied by its square."""

    def __post_init__(self):
        _require("--train.epochs", self.epochs, lambda it: it >= 1, "1 or more")
        _require("--train.batch-size", self.batch_size, lambda it: it >= 2, "2 or more, for BatchNorm")
        _require("--train.label-smoothing", self.label_smoothing, lambda it: 0 <= it < 1, "a share in [0, 1)")
        _require("--train.ema-decay", self.ema_decay, lambda it: 0 < it < 1, "a share in (0, 1)")
        _require("--train.distillation-weight", self.distillation_weight, lambda it: it > 0, "a factor above 0")
        _require("--train.temperature", self.temperature, lambda it: it > 0, "a number above 0")


@dataclass(frozen=True)
class EvaluateConfig:
    """The evaluation: every image once, at any batch size."""

    every_epochs: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: int = 500
    """Images in an evaluation step, over all devices together."""
    tta: Literal["none", "flip", "full"] = "none"
    """Test-time augmentation, reported beside the plain figures: "flip", the mirror image; "full", also two shifts."""

    def __post_init__(self):
        _require("--evaluate.every-epochs", self.every_epochs, lambda it: it >= 1, "1 or more")
        _require("--evaluate.batch-size", self.batch_size, lambda it: it >= 1, "1 or more")


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints, written during the training, at its end, and when the run is interrupted."""

    every_epochs: int = 1
    """Epochs between checkpoints."""

    def __post_init__(self):
        _require("--checkpoint.every-epochs", self.every_epochs, lambda it: it >= 1, "1 or more")


@dataclass(frozen=True)
class DistributedConfig:
    """Which process of a run this is; needed where JAX can't ask a cluster. It is not stored with the run."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of process 0 and a free port there, the same for all. By default what the cluster says, if anything."""
    process_count: int | None = None
    """Number of processes, each with its own devices; all run the same command."""
    process_index: int | None = None
    """Number of this process, from 0."""

    def __post_init__(self):
        given = {
            "coordinator": self.coordinator,
            "process-count": self.process_count,
            "process-index": self.process_index,
        }
        missing = [f"--distributed.{name}" for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            raise UsageError(f"{' and '.join(missing)}: got nothing, expected all three --distributed options or none")
        _require("--distributed.coordinator", self.coordinator, _is_address, "HOST:PORT, such as 10.0.0.1:8476")
        _require("--distributed.process-count", self.process_count, lambda it: it >= 1, "1 or more")
        _require(
            "--distributed.process-index",
            self.process_index,
            lambda it: 0 <= it < (self.process_count or 1),
            "a number from 0 to --distributed.process-count - 1",
        )


@dataclass(frozen=True)
class Config:
    """The configuration of a run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    @property
    def small_epochs(self) -> int:
        """Number of the first epochs whose images are shrunk."""
        return 0 if self.augment.small_size is None else round(self.augment.small_share * self.train.epochs)


def as_dict(config: Config) -> dict[str, Any]:
    """Return the configuration as nested dictionaries of JSON's types."""
    return {
        section.name: {
            key: str(value) if isinstance(value, Path) else value
            for key, value in dataclasses.asdict(getattr(config, section.name)).items()
        }
        for section in dataclasses.fields(config)
    }


def from_dict(values: Mapping[str, Any]) -> Config:
    """Build the configuration that `as_dict` has written, perhaps in an older version of this package.

    Args:
        values: fields by section; an absent field has its default, and a relative `data.dir` becomes absolute.

    Raises:
        UsageError: a section or field is unknown, or a value is out of its range or has another type.
    """
    sections = {section.name: type(getattr(Config(), section.name)) for section in dataclasses.fields(Config)}
    known = {f"{name}.{key.name}" for name, kind in sections.items() for key in dataclasses.fields(kind)}
    if not isinstance(values, Mapping) or not all(isinstance(fields, Mapping) for fields in values.values()):
        raise UsageError("the configuration is damaged: expected fields by section; restore it, or start a new run")
    if unknown := {f"{name}.{key}" for name, fields in values.items() for key in fields} - known:
        raise UsageError(
            f"the configuration has the unknown fields {', '.join(sorted(unknown))}: it was written by another version "
            "of resnet-jax; use that version, or start a new run"
        )
    try:
        return msgspec.convert(values, Config, dec_hook=lambda _, path: Path(path).expanduser().absolute())
    except msgspec.ValidationError as error:
        raise UsageError(f"the configuration is damaged ({error}): restore it, or start a new run") from error


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the fields in which two dictionaries of `as_dict` differ, as `section.field: old -> new`."""
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


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def _require(option: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    if value is not None and not holds(value):
        raise UsageError(f"{option}: got {value}, expected {expected}")
