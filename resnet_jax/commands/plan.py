"""`resnet-jax plan`: whether a training run fits another machine, and how fast it could be there at most."""

import json as json_lines
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from resnet_jax.commands.usage import OptionalNumber, OptionalRecipe
from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError, at_least
from resnet_jax.models.registry import Architecture
from resnet_jax.recipe import load_config

IMAGENET_IMAGES, IMAGENET_CLASSES, IMAGENET_SIZE = 1_281_167, 1000, 224


def plan(
    *,
    target: Annotated[str, tyro.conf.arg(metavar="TARGET")],
    config: OptionalRecipe = None,
    arch: Architecture | None = None,
    image_size: OptionalNumber = None,
    classes: OptionalNumber = None,
    images: OptionalNumber = None,
    batch_size: OptionalNumber = None,
    epochs: OptionalNumber = None,
    price: Annotated[float | None, tyro.conf.arg(metavar="PRICE")] = None,
    decode_rate: Annotated[float | None, tyro.conf.arg(metavar="IMAGES")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Compile a training step for another machine: does it fit, how fast could it be, and what would it cost?

    Example: resnet-jax plan --config configs/cifar10.py --target v5e:4x4

    Example: resnet-jax plan --config configs/imagenet.py --batch-size 1024 --target h100:8 --price 2.50

    Example: resnet-jax plan --arch resnet18 --batch-size 4096 --target v6e:2x2

    Args:
        target: a slice of TPU chips, such as v5e:4x4, v6e:2x2, v4:2x2x1, v5p:2x2x4, or GPUs of one machine, such as
            h100, a100:8.
        config: a recipe, with its images on the chips or streamed, as a run would have them. Without one, a step of
            --arch gets a ready batch as input.
        arch: the network; by default the recipe's. Without a recipe, images of up to 64 pixels get the stem for small
            images.
        image_size: height and width in pixels; by default the recipe's, or 224.
        classes: number of classes; by default the recipe's, or 1000.
        images: training images in an epoch; by default the recipe's, or ImageNet's 1,281,167.
        batch_size: images in a step, over all chips; by default the recipe's, or 128 for each chip.
        epochs: by default the recipe's, or 90.
        price: price of one chip for one hour, in any currency.
        decode_rate: streamed images that one virtual processor of a host decodes in a second; by default 700, measured
            with JPEGs of 500x375.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range, the batch can't be divided among the chips, or the images are not fully
            described.
        UserError: the compiler is not installed.
    """
    from resnet_jax.planning.ceiling import answers
    from resnet_jax.planning.job import make_job
    from resnet_jax.planning.report import print_part
    from resnet_jax.planning.sizing import Compiler
    from resnet_jax.planning.targets import parse_target

    at_least(0, price=price)
    at_least(1, image_size=image_size, classes=classes, images=images, epochs=epochs, decode_rate=decode_rate)
    at_least(2, batch_size=batch_size)
    machine, ready = parse_target(target), config is None
    if ready:
        images, classes = images or IMAGENET_IMAGES, classes or IMAGENET_CLASSES
        image_size, batch_size, epochs = image_size or IMAGENET_SIZE, batch_size or 128 * machine.count, epochs or 90
    train = (recipe := _recipe(config, arch, image_size)).train
    train = replace(train, batch_size=batch_size or train.batch_size, epochs=epochs or train.epochs)
    recipe = replace(recipe, train=train)
    job = make_job(recipe, images, image_size, classes, memory_bytes=machine.memory_bytes, ready=ready)
    _only_compile()
    figures: dict[str, Any] = {}
    with _naming_the_recipe():
        for part in answers(Compiler(job, machine), price, decode_rate):
            figures |= part
            if not json:
                print_part(part, figures, machine)
    if json:
        print(json_lines.dumps(figures))


def _only_compile() -> None:
    """Set JAX up for programs that are compiled for the target and not run here."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


def _recipe(path: Path | None, arch: Architecture | None, image_size: int | None) -> Config:
    if path is not None:
        recipe = load_config(path)
        return recipe if arch is None else replace(recipe, model=replace(recipe.model, arch=arch))
    if arch is None or image_size is None:
        raise UsageError("--config: got nothing, expected a recipe, or --arch with a network such as resnet18")
    return Config(model=ModelConfig(arch=arch, stem="imagenet" if image_size > 64 else "cifar"))


@contextmanager
def _naming_the_recipe() -> Iterator[None]:
    """Say that a value is the recipe's, where the error inside names an option of the trainer."""
    try:
        yield
    except UsageError as error:
        raise UsageError(re.sub(r"--([a-z]+)\.([a-z-]+)", r"the recipe's \1.\2", str(error))) from error
