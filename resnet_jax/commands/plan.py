"""`resnet-jax plan`: whether a training run fits another machine, and how fast it could be there at most."""

import json as json_lines
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from resnet_jax.commands.usage import OptionalNumber, OptionalRecipe
from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError, at_least
from resnet_jax.models.registry import Architecture
from resnet_jax.recipe import load_config

if TYPE_CHECKING:
    from resnet_jax.planning.targets import Target

IMAGENET_IMAGES, IMAGENET_CLASSES, IMAGENET_SIZE = 1_281_167, 1000, 224
GIB = 2**30
GPU_SENTENCE = (
    "Arithmetic is counted before optimization, since the compiler does not count cuDNN's part. Memory is all that "
    "operations read and write, even what the cache keeps between them: a small batch can be faster."
)


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
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Compile a training step for another machine: does it fit, how fast could it be, and what would it cost?

    Example: resnet-jax plan --config configs/cifar10.py --target v5e:4x4

    Example: resnet-jax plan --arch resnet18 --batch-size 4096 --target h100:8 --price 2.50

    Args:
        target: a slice of TPU chips, such as v5e:4x4, v6e:2x2, v4:2x2x1, v5p:2x2x4, or GPUs of one machine, such as
            h100, a100:8.
        config: a recipe, whose images are on the devices. Without one, a step of --arch gets a ready batch as input.
        arch: the network; by default the recipe's. Without a recipe, images of up to 64 pixels get the stem for small
            images.
        image_size: height and width in pixels; by default the recipe's, or 224.
        classes: number of classes; by default the recipe's, or 1000.
        images: training images in an epoch; by default the recipe's, or ImageNet's 1,281,167.
        batch_size: images in a step, over all chips; by default the recipe's, or 128 for each chip.
        epochs: by default the recipe's, or 90.
        price: price of one chip for one hour, in any currency.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range, the batch can't be divided among the chips, or the images are not fully
            described.
        UserError: the compiler is not installed.
    """
    from resnet_jax.planning.ceiling import answers
    from resnet_jax.planning.job import make_job
    from resnet_jax.planning.sizing import Compiler
    from resnet_jax.planning.targets import parse_target

    at_least(0, price=price)
    at_least(1, image_size=image_size, classes=classes, images=images, epochs=epochs)
    at_least(2, batch_size=batch_size)
    machine, resident = parse_target(target), config is not None
    if not resident:
        images, classes = images or IMAGENET_IMAGES, classes or IMAGENET_CLASSES
        image_size, batch_size, epochs = image_size or IMAGENET_SIZE, batch_size or 128 * machine.count, epochs or 90
    recipe = _recipe(config, arch, image_size)
    train = replace(
        recipe.train, batch_size=batch_size or recipe.train.batch_size, epochs=epochs or recipe.train.epochs
    )
    job = make_job(replace(recipe, train=train), images, image_size, classes, resident=resident)
    _only_compile()
    figures: dict[str, Any] = {}
    with _naming_the_recipe():
        for part in answers(Compiler(job, machine), price):
            figures |= part
            if not json:
                _print(part, figures, machine)
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


def _print(part: dict[str, Any], figures: dict[str, Any], target: "Target") -> None:
    """Print what a part says; `figures` has the earlier parts as well."""
    console = Console(highlight=False, soft_wrap=True)
    if "fits" in part:
        pixels, images = figures["image_size"], f"its {figures['images']:,} images on every chip"
        console.print(
            f"{figures['arch']} for {figures['classes']} classes at {pixels}x{pixels} pixels on {target.count} x "
            f"{target.chip.name}, {images if figures['resident'] else 'with ready batches as input'}"
        )
        console.print(memory_sentence(figures, target))
    elif "step_seconds" in part:
        console.print(_step_table(figures, target))
        for line in ceiling_sentences(figures, target):
            console.print(line)
    else:
        console.print(largest_sentence(figures))


def _step_table(figures: dict[str, Any], target: "Target") -> Table:
    chip, seconds = target.chip, figures["step_seconds"]
    table = Table(
        "a step, each chip", Column("needs", justify="right"), "at", Column("takes", justify="right"), box=SIMPLE_HEAD
    )
    for name, need, rate in (
        ("arithmetic", f"{figures['flops'] / 1e9:,.1f} GFLOP", f"{chip.bfloat16_flops / 1e12:,.0f} TFLOP/s"),
        ("memory", f"{figures['traffic_bytes'] / 1e6:,.1f} MB", f"{chip.memory_bandwidth / 1e9:,.0f} GB/s"),
        ("network", f"{figures['sent_bytes'] / 1e6:,.1f} MB sent", f"{chip.network_bandwidth / 1e9:,.0f} GB/s"),
    ):
        table.add_row(name, need, rate, f"{seconds[name] * 1e3:,.3f} ms")
    return table


def memory_sentence(figures: dict[str, Any], target: "Target") -> str:
    """Say whether the batch fits."""
    return (
        f"A batch of {figures['batch_size']:,} {'fits' if figures['fits'] else 'does not fit'}: "
        f"{'' if figures['fits'] else 'at least '}{figures['memory_bytes'] / GIB:,.2f} GiB on each chip, "
        f"of {figures['limit_bytes'] / GIB:,.2f} GiB "
        + ("that programs may use." if target.is_tpu else "that JAX reserves by default, 75% of a GPU's memory.")
    )


def largest_sentence(figures: dict[str, Any]) -> str:
    """Say which batch is the largest that fits."""
    largest = figures["largest_batch_size"]
    if largest is None:
        return "No batch fits."
    if largest == figures["largest_possible_batch_size"]:
        return f"Any batch that the {figures['images']:,} training images can fill fits."
    return f"The largest batch that fits is about {largest:,}."


def ceiling_sentences(figures: dict[str, Any], target: "Target") -> list[str]:
    """Say what follows from the figures, and what they leave out."""
    cost = "" if figures["cost"] is None else f", at a cost of {_digits(figures['cost'])}"
    return [
        f"With batches of {figures['counted_batch_size']:,}: at most {figures['images_per_second_ceiling']:,.0f} "
        f"images/s, limited by {figures['bound']}. {figures['epochs']} epochs ({figures['steps']:,} steps) take "
        f"at least {duration(figures['training_seconds'])}: {_digits(figures['chip_hours'])} chip-hours{cost}.",
        f"In each step the chips exchange {figures['collective_bytes'] / 1e6:,.1f} MB each in {figures['collectives']} "
        "operations, whose latency is not counted.",
        *([] if target.is_tpu else [GPU_SENTENCE]),
        "This is a ceiling, not a measurement: the work of the compiled step at the rates of the data sheet, with "
        "arithmetic, memory and network always busy at the same time. Evaluation and input are not included.",
    ]


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are at least two."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{_digits(seconds)} seconds"


def _digits(number: float) -> str:
    """Return a number with two decimals, or with two digits if it is below 0.1."""
    return f"{number:,.2f}" if number >= 0.1 else f"{number:.2g}"
