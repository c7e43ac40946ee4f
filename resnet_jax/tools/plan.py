"""`resnet-jax plan`: does a training fit a machine that one does not have, and how fast can it be there at most?"""

import json as json_lines
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from resnet_jax.config import Architecture, Config, ModelConfig
from resnet_jax.errors import UsageError

IMAGENET = {"images": 1_281_167, "image_size": 224, "classes": 1000}
CEILING = (
    "This is a ceiling and not a measurement: what the compiler counts, at the data sheet's rates, with arithmetic, "
    "memory and network working all the time and at once. Evaluation, input and latency come on top."
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
    """Compiles the training step for a machine that one does not have: does it fit, how fast can it be, what does it cost?

    Needs the extra `plan` (libtpu, and JAX's CUDA plugin), and minutes for each of three to six compilations.

    Example: resnet-jax plan --config configs/cifar10.py --target v5e:4x4

    Example: resnet-jax plan --arch resnet18 --batch-size 4096 --target h100:8 --price 2.5

    Args:
        target: a slice of TPU chips, as v5e:4x4, v6e:2x2, v4:2x2x1, v5p:2x2x4, or GPUs of one machine, as h100, a100:8.
        config: a recipe; its data set lies on the devices. Without one, batches come ready and --arch says of what.
        arch: network; the stem is that for small images up to 64 pixels if there is no recipe.
        image_size: pixels of a side; the recipe's, or 224.
        classes: the recipe's, or 1000.
        images: training images in an epoch; the recipe's, or ImageNet's 1,281,167.
        batch_size: images in a step, over all chips; the recipe's, or 256 for each chip.
        epochs: the recipe's, or 90.
        price: of one chip for one hour, in any currency.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: the batch does not divide among the chips, or too little is known of the data set.
        UserError: the compiler is not installed.
    """
    import jax

    from resnet_jax.recipe import load_config
    from resnet_jax.tools.ceiling import Compiler
    from resnet_jax.tools.job import make_job
    from resnet_jax.tools.targets import parse_target

    machine = parse_target(target)
    jax.config.update("jax_platforms", "cpu")  # the target is compiled for and not used
    jax.config.update("jax_enable_compilation_cache", False)  # it keeps what runs here
    resident = config is not None
    if config is None:
        facts = IMAGENET | {key: value for key, value in (("image_size", image_size), ("classes", classes)) if value}
        images, image_size, classes = images or facts["images"], facts["image_size"], facts["classes"]
        chosen = _plain(arch, image_size, batch_size or 256 * machine.count)
    else:
        chosen = load_config(config)
        chosen = replace(chosen, model=replace(chosen.model, arch=arch or chosen.model.arch))
    train = replace(
        chosen.train, batch_size=batch_size or chosen.train.batch_size, epochs=epochs or chosen.train.epochs
    )
    job = make_job(replace(chosen, train=train), images, image_size, classes, resident=resident)
    figures = figures_of(Compiler(job, machine), price)
    if json:
        print(json_lines.dumps(figures))
    else:
        _print(figures)


def _plain(arch: Architecture | None, image_size: int, batch_size: int) -> Config:
    if arch is None:
        raise UsageError("--config: got nothing, wanted a recipe, or --arch with --image-size, --classes, --batch-size")
    base = Config(model=ModelConfig(arch=arch, stem="imagenet" if image_size > 64 else "cifar"))
    return replace(base, train=replace(base.train, batch_size=batch_size, epochs=90))


def figures_of(compiler: Any, price: float | None) -> dict[str, Any]:
    """Everything that `plan` prints."""
    from resnet_jax.tools.ceiling import largest_batch, seconds_of

    job, machine = compiler.job, compiler.target
    unit, batch_size = machine.count * job.config.optimizer.accumulate, job.config.train.batch_size
    if batch_size % unit:
        near = max(batch_size // unit, 1) * unit
        raise UsageError(
            f"--batch-size: got {batch_size} for {machine.count} chips, wanted a multiple of {unit}, for example {near}"
        )
    needs = compiler.needs(batch_size)
    eighths = unit * 8 if job.images >= unit * 8 else unit
    largest = largest_batch(compiler.needs, compiler.limit_bytes, batch_size, eighths, job.images // eighths * eighths)
    figures = {
        "target": machine.name,
        "chips": machine.count,
        "arch": job.config.model.arch,
        "image_size": job.image_size,
        "classes": job.classes,
        "images_on_devices": job.resident,
        "batch_size": batch_size,
        "fits": needs.fits,
        "memory_bytes": needs.memory_bytes,
        "limit_bytes": compiler.limit_bytes,
        "largest_batch_size": largest,
    }
    counted = batch_size if needs.fits else largest
    if counted is None:
        return figures
    work = compiler.work(counted)
    seconds = seconds_of(work, machine.chip)
    steps = job.images // counted * job.config.train.epochs
    hours = steps * seconds.step * machine.count / 3600
    return figures | {
        "counted_batch_size": counted,
        **asdict(work),
        "seconds": asdict(seconds),
        "bound": seconds.bound,
        "images_per_second": counted / seconds.step,
        "epochs": job.config.train.epochs,
        "steps": steps,
        "training_seconds": steps * seconds.step,
        "chip_hours": hours,
        "price": None if price is None else hours * price,
        "note": CEILING,
    }


def _print(figures: dict[str, Any]) -> None:
    print(json_lines.dumps(figures, indent=1))
