"""`resnet-jax benchmark`: how fast a network trains and predicts on this machine, and what limits it."""

import json as json_lines
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import tyro
from rich.console import Console

from resnet_jax.commands.usage import OptionalFile, OptionalFolder
from resnet_jax.config import ModelConfig
from resnet_jax.errors import UsageError, UserError, at_least, writing
from resnet_jax.models.registry import Architecture

LARGEST_CIFAR = 64  # pixels; larger images get the 7x7 stem and 1000 classes


def benchmark(
    *,
    arch: Architecture = "resnet18",
    width: int = 64,
    image_size: int = 32,
    batch_size: int | Literal["auto"] = 128,
    dtype: Literal["float32", "bfloat16"] | None = None,
    repeats: int = 5,
    against: Literal["torch"] | None = None,
    profile: OptionalFolder = None,
    csv: OptionalFile = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure images per second of the forward pass, the training step, the input alone, and the whole training.

    The images are random: up to 64 pixels with the 3x3 stem and 10 classes, larger with the 7x7 stem and 1000 classes.
    Figures are medians over the repeats, with the lowest and highest value. No program is taken from the cache.

    Example: resnet-jax benchmark --image-size 224 --batch-size auto --against torch

    Args:
        arch: name of the network, as in torchvision.
        width: channels of the first stage.
        image_size: height and width in pixels.
        batch_size: images in a step, over all devices; "auto" doubles it as long as that makes training faster.
        dtype: type of the computation. By default bfloat16 on TPU and GPU, float32 on CPU.
        repeats: number of measurements of each figure, each of half a second or one step.
        against: measure the same in PyTorch, alternating with ours, and report the ratio (extra: parity).
        profile: folder for an xprof trace of some training steps, whose longest operations are listed.
        csv: file to add a row to, with the columns of timm's benchmark.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range.
        UserError: PyTorch is missing, memory is exhausted, a file can't be written, or the CSV file has other columns.
    """
    from resnet_jax.benchmarking.report import print_figures
    from resnet_jax.benchmarking.timm_csv import add_to_csv, check_csv

    at_least(1, repeats=repeats, image_size=image_size)
    at_least(2, batch_size=batch_size)
    if csv is not None:
        check_csv(csv)
    if profile is not None:
        with writing(profile, "give another --profile"):
            profile.mkdir(parents=True, exist_ok=True)
    with _explained(), Console(stderr=True).status("starting") as status:
        _prepare_jax(against)
        network = ModelConfig(arch, "cifar" if image_size <= LARGEST_CIFAR else "imagenet", width, dtype=dtype)
        from resnet_jax.benchmarking.benchmark import measure_all

        figures = measure_all(network, image_size, batch_size, repeats, against, profile, status.update)
    if csv is not None:
        add_to_csv(csv, figures)
    if json:
        print(json_lines.dumps(figures))
    else:
        print_figures(figures)


@contextmanager
def _explained() -> Iterator[None]:
    """Name this command's options instead of the trainer's, and turn a lack of memory into an error."""
    from resnet_jax.benchmarking.sweep import out_of_memory

    try:
        yield
    except UsageError as error:
        raise UsageError(re.sub(r"--(train|model)\.", "--", str(error))) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError("out of memory: choose a smaller --batch-size, --image-size or --width") from error


def _prepare_jax(against: str | None) -> None:
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured too
    if against is not None:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would reserve 75% of the GPU's memory
