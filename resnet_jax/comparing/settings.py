"""What networks are compared on: the same images, recipe and sizes for all of them."""

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from resnet_jax.config import Config, ModelConfig, as_dict
from resnet_jax.errors import UsageError
from resnet_jax.hardware.sharding import find_devices
from resnet_jax.models.published import published_figures
from resnet_jax.models.registry import Stem
from resnet_jax.training.images import read_images
from resnet_jax.training.setup import resolve

IMAGENET_SIZE, IMAGENET_CLASSES = 224, 1000
LARGEST_CIFAR, CIFAR_CLASSES = 64, 10  # images of up to 64 pixels get the stem for small images


@dataclass(frozen=True)
class Settings:
    """What must be the same for all figures of a comparison."""

    image_size: int
    """Height and width of the measured images, pixels."""
    classes: int
    batch_size: int | None
    """Images in a measured step, over all devices; None for the size whose forward pass is the fastest."""
    repeats: int
    """Number of measurements of each speed."""
    model: ModelConfig
    """Stem, width and type of the computation of each network."""
    recipe: Config | None = None
    """Configuration of the training runs; None if nothing is trained."""
    budget_seconds: float | None = None
    """Training time of each run; None for the recipe's epochs."""
    pretrained: bool = False
    """Whether the training starts from published weights."""

    def network(self, arch: str) -> ModelConfig:
        """Return the configuration of one network, as it is measured."""
        return replace(self.model, arch=arch, pretrained=None)

    def run(self, arch: str, seed: int, epochs: int) -> Config:
        """Return the configuration of one training run."""
        assert self.recipe is not None
        source = published_source(arch) if self.pretrained else self.recipe.model.pretrained
        train = replace(self.recipe.train, seed=self.recipe.train.seed + seed, epochs=epochs)
        return replace(self.recipe, model=replace(self.recipe.model, arch=arch, pretrained=source), train=train)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as sections of fields, of JSON's types."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        model, recipe = values.pop("model"), values.pop("recipe")
        sections = {} if recipe is None else {f"recipe {name}": fields for name, fields in as_dict(recipe).items()}
        return {"measured": values, "network": dataclasses.asdict(model)} | sections


class Images(NamedTuple):
    """The images of the training runs."""

    description: str
    training_images: int
    """Number of images in an epoch."""


def measured_settings(image_size: int | None, batch_size: int | None, repeats: int) -> Settings:
    """Return the settings of a comparison without training; by default at 224 pixels."""
    size = image_size or IMAGENET_SIZE
    stem = usual_stem(size)
    config = resolve(Config(model=ModelConfig(stem=stem)), find_devices()[0].platform)
    return Settings(size, CIFAR_CLASSES if stem == "cifar" else IMAGENET_CLASSES, batch_size, repeats, config.model)


def usual_stem(image_size: int) -> Stem:
    """Return the stem for images of a size, where no recipe names one."""
    return "cifar" if image_size <= LARGEST_CIFAR else "imagenet"


def trained_settings(
    recipe: Config, repeats: int, budget_seconds: float | None, *, pretrained: bool
) -> tuple[Settings, Images]:
    """Return the settings of a comparison with training, and its images, which are read.

    Raises:
        UsageError: the recipe starts from weights of one network.
        UserError: the images can't be read.
    """
    start = recipe.model.pretrained
    pretrained |= start is not None and start.startswith("torchvision/")
    if start is not None and not pretrained:
        raise UsageError(f"--model.pretrained: got {start}, weights of one network; expected --pretrained")
    if pretrained and recipe.model.stem != "imagenet":
        raise UsageError("--pretrained: the published weights need --model.stem imagenet")
    recipe = resolve(recipe, find_devices()[0].platform)
    dataset = read_images(recipe, find_devices()[0]).hold_out(recipe.data.val_fraction)
    trained, tested = dataset.train.num_images, dataset.test.num_images
    settings = Settings(
        image_size=dataset.train.image_shape[0],
        classes=len(dataset.class_names),
        batch_size=recipe.train.batch_size,
        repeats=repeats,
        model=recipe.model,
        recipe=recipe,
        budget_seconds=budget_seconds,
        pretrained=pretrained,
    )
    return settings, Images(f"{dataset.name}, {trained:,} training and {tested:,} test images", trained)


def published_source(arch: str) -> str:
    """Return the name of a network's first published weights.

    Raises:
        UsageError: there are none.
    """
    published = published_figures().get(arch)
    if published is None:
        raise UsageError(f"--pretrained: no weights of {arch} are published; leave {arch} out of --archs")
    return f"torchvision/{arch}.{published[0].weights}"
