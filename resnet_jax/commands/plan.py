"""`resnet-jax plan`: does a training fit a machine that one does not have, and how fast can it be there at most?"""

import json as json_lines
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError, at_least
from resnet_jax.models.registry import Architecture
from resnet_jax.recipe import load_config

if TYPE_CHECKING:
    from resnet_jax.planning.targets import Target

IMAGENET_IMAGES, IMAGENET_CLASSES, IMAGENET_SIZE = 1_281_167, 1000, 224
GIB = 2**30
GPU_SENTENCE = (
    "The arithmetic is that before optimisation, as cuDNN's share is not counted. The memory's has all that operations "
    "read and write, also what the cache keeps from one to the next: a small batch can be faster."
)


def plan(
    *,
    target: str,
    config: Path | None = None,
    arch: Architecture | None = None,
    image_size: int | None = None,
    classes: int | None = None,
    images: int | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    price: float | None = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Compiles a training step for a machine that one does not have: does it fit, how fast is it at most, at what cost?

    Needs the extra `plan` (libtpu and JAX's CUDA plugin), and three to seven compilations: a minute or two each for a
    TPU on two cores, ten seconds for a GPU.

    Example: resnet-jax plan --config configs/cifar10.py --target v5e:4x4

    Example: resnet-jax plan --arch resnet18 --batch-size 4096 --target h100:8 --price 2.50

    Args:
        target: a slice of TPU chips, as v5e:4x4, v6e:2x2, v4:2x2x1, v5p:2x2x4, or GPUs of one machine, as h100, a100:8.
        config: a recipe, whose images lie on the devices. Without one, batches come ready and --arch says for what.
        arch: the network; the recipe's. Without a recipe, images of up to 64 pixels get the stem for small images.
        image_size: pixels of a side; the recipe's, or 224.
        classes: the recipe's, or 1000.
        images: training images in an epoch; the recipe's, or ImageNet's 1,281,167.
        batch_size: images in a step, over all chips; the recipe's, or 128 for each chip.
        epochs: the recipe's, or 90.
        price: of one chip for one hour, in any currency.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range, the batch does not divide among the chips, or too little is known of the
            images.
        UserError: the compiler is not installed.
    """
    import jax

    from resnet_jax.planning.ceiling import figures_of
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
    jax.config.update("jax_platforms", "cpu")  # the target is compiled for, not used
    jax.config.update("jax_enable_compilation_cache", False)  # it is for what runs here
    figures = figures_of(Compiler(job, machine), price)
    if json:
        print(json_lines.dumps(figures))
    else:
        _print(figures, machine)


def _recipe(path: Path | None, arch: Architecture | None, image_size: int | None) -> Config:
    if path is not None:
        recipe = load_config(path)
        return recipe if arch is None else replace(recipe, model=replace(recipe.model, arch=arch))
    if arch is None or image_size is None:
        raise UsageError("--config: got nothing, wanted a recipe, or else --arch resnet18 or another network")
    return Config(model=ModelConfig(arch=arch, stem="imagenet" if image_size > 64 else "cifar"))


def _print(figures: dict[str, Any], target: "Target") -> None:
    console = Console(highlight=False, soft_wrap=True)
    chip, chips, pixels = target.chip, target.count, figures["image_size"]
    console.print(
        f"{figures['arch']} for {figures['classes']} classes at {pixels}x{pixels} pixels on {chips} x {chip.name}, "
        + (f"its {figures['images']:,} images on every chip" if figures["resident"] else "batches coming ready")
    )
    console.print(memory_sentence(figures, target))
    if figures["counted_batch_size"] is None:
        return
    seconds = figures["step_seconds"]
    table = Table(
        "a step, each chip", Column("needs", justify="right"), "at", Column("takes", justify="right"), box=SIMPLE_HEAD
    )
    for name, need, rate in (
        ("arithmetic", f"{figures['flops'] / 1e9:,.1f} GFLOP", f"{chip.bfloat16_flops / 1e12:,.0f} TFLOP/s"),
        ("memory", f"{figures['traffic_bytes'] / 1e6:,.1f} MB", f"{chip.memory_bandwidth / 1e9:,.0f} GB/s"),
        ("network", f"{figures['sent_bytes'] / 1e6:,.1f} MB sent", f"{chip.network_bandwidth / 1e9:,.0f} GB/s"),
    ):
        table.add_row(name, need, rate, f"{seconds[name] * 1e3:,.3f} ms")
    console.print(table)
    for line in ceiling_sentences(figures, target):
        console.print(line)


def memory_sentence(figures: dict[str, Any], target: "Target") -> str:
    """Whether the batch fits, and which would."""
    verdict = (
        f"A batch of {figures['batch_size']:,} {'fits' if figures['fits'] else 'does not fit'}: "
        f"{'' if figures['fits'] else 'at least '}{figures['memory_bytes'] / GIB:,.2f} GiB on each chip, "
        f"of {figures['limit_bytes'] / GIB:,.2f} GiB "
        + ("that programs may use" if target.is_tpu else "that JAX takes by default, 75% of a GPU's memory")
    )
    largest = figures["largest_batch_size"]
    if largest is None:
        return f"{verdict}. No batch fits."
    if largest == figures["largest_possible_batch_size"]:
        return f"{verdict}. So does any that the {figures['images']:,} training images fill."
    return f"{verdict}. The largest that fits is near {largest:,}."


def ceiling_sentences(figures: dict[str, Any], target: "Target") -> list[str]:
    """What the figures come to, and what they are not."""
    cost = "" if figures["cost"] is None else f", which cost {_digits(figures['cost'])}"
    return [
        f"With batches of {figures['counted_batch_size']:,}: at most {figures['images_per_second_ceiling']:,.0f} "
        f"images/s, bound by {figures['bound']}. {figures['epochs']} epochs ({figures['steps']:,} steps) take at least "
        f"{duration(figures['training_seconds'])}: {_digits(figures['chip_hours'])} chip-hours{cost}.",
        f"In a step the chips exchange {figures['collective_bytes'] / 1e6:,.1f} MB each in {figures['collectives']} "
        "operations, whose latency is not counted.",
        *([] if target.is_tpu else [GPU_SENTENCE]),
        "This is a ceiling and not a measurement: the compiled step's work at the data sheet's rates, with arithmetic, "
        "memory and network busy all the time and at once. Evaluation and what feeds the images come on top.",
    ]


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has two."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{_digits(seconds)} seconds"


def _digits(number: float) -> str:
    """Two decimals, or two digits of what is below 0.1."""
    return f"{number:,.2f}" if number >= 0.1 else f"{number:.2g}"
