"""`resnet-jax benchmark`: how fast networks train and predict on this machine, and what limits them."""

import json as json_texts
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from resnet_jax.commands.usage import OptionalFile, OptionalFolder, OptionalNumber
from resnet_jax.config import ModelConfig
from resnet_jax.errors import UsageError, UserError, at_least, writing
from resnet_jax.models.registry import Architecture
from resnet_jax.models.sets import SETS, SetName

LARGEST_CIFAR = 64  # pixels; larger images get the 7x7 stem and 1000 classes
BatchSize = Annotated[int | Literal["auto"] | None, tyro.conf.arg(metavar="INT|auto")]
Measure = Callable[..., dict[str, Any]]


def benchmark(
    *,
    arch: Architecture = "resnet18",
    set: SetName | None = None,
    width: int = 64,
    image_size: int = 32,
    batch_size: BatchSize = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    repeats: OptionalNumber = None,
    against: Literal["torch"] | None = None,
    profile: OptionalFolder = None,
    csv: OptionalFile = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Measure images per second of the forward pass, the training step, the input alone, and the whole training.

    The images are random: up to 64 pixels with the 3x3 stem and 10 classes, larger with the 7x7 stem and 1000 classes.
    Figures are medians over the repeats, with the lowest and highest value. No program is taken from the cache.

    Example: resnet-jax benchmark --image-size 224 --batch-size auto --against torch

    Example: resnet-jax benchmark --set family --against torch

    Args:
        arch: name of the network, as in torchvision.
        set: measure training step and forward pass of several networks, one after the other: family (torchvision's
            ResNets), small, classic or all, as in `resnet-jax compare`.
        width: channels of the first stage.
        image_size: height and width in pixels.
        batch_size: images in a step, over all devices; "auto" doubles it as long as that makes training faster. By
            default 128, with --set 16.
        dtype: type of the computation. By default bfloat16 on TPU and GPU, float32 on CPU.
        repeats: number of measurements of each figure, each of half a second or one step. By default 5, with --set 3.
        against: measure the same in PyTorch, alternating with ours, and report the ratio (extra: parity).
        profile: folder for an xprof trace of some training steps, whose longest operations are listed.
        csv: file to add a row to for each network, with the columns of timm's benchmark.
        json: print one JSON object and nothing else.

    Raises:
        UsageError: an option is out of range.
        UserError: PyTorch is missing, memory is exhausted, a file can't be written, the CSV file has other columns, or
            no network of the set can be measured.
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
    images, times = (128, 5) if set is None else (16, 3)
    with _explained():
        network = ModelConfig(arch, "cifar" if image_size <= LARGEST_CIFAR else "imagenet", width, dtype=dtype)
    measure: Measure = partial(_measure, image_size, batch_size or images, repeats or times, against, whole=set is None)
    if set is not None:
        if against is not None:
            from resnet_jax.benchmarking.torch_peer import check_installed

            check_installed()
        _benchmark_set(set, network, measure, profile, csv, json)
        return
    with Console(stderr=True).status("starting") as status:
        figures = measure(status.update, network=network, profile=profile)
    if csv is not None:
        add_to_csv(csv, figures)
    if json:
        print(json_texts.dumps(figures))
    else:
        print_figures(figures)


def _benchmark_set(
    name: SetName, network: ModelConfig, measure: Measure, profile: Path | None, csv: Path | None, json: bool
) -> None:
    """Measure the networks of a set, print a row for each as soon as it is measured, and what they have in common."""
    from resnet_jax.benchmarking.alone import measure_alone
    from resnet_jax.benchmarking.set_report import means_of, print_headings, print_means, print_row
    from resnet_jax.benchmarking.timm_csv import add_to_csv

    console = Console(highlight=False, quiet=json)
    networks: list[dict[str, Any]] = []
    print_headings(console)
    for number, arch in enumerate(SETS[name], 1):
        place = f"{arch} ({number} of {len(SETS[name])})"
        with Console(stderr=True).status(place) as status:

            def say(message: str, place: str = place, update: Callable = status.update) -> None:
                update(f"{place}: {message}")

            try:
                with _explained():
                    one = partial(measure, network=replace(network, arch=arch), profile=profile and profile / arch)
                networks.append(measure_alone(one, say))
            except UserError as error:
                networks.append({"arch": arch, "failure": str(error)})
        print_row(console, networks[-1])
        if csv is not None and "failure" not in networks[-1]:
            add_to_csv(csv, networks[-1])
    if all("failure" in figures for figures in networks):
        raise UserError(f"--set {name}: no network could be measured; {networks[0]['failure']}")
    print_means(console, networks)
    if json:
        print(json_texts.dumps({"set": name, "networks": networks} | means_of(networks)))


def _measure(
    image_size: int,
    batch_size: int | Literal["auto"],
    repeats: int,
    against: str | None,
    say: Callable[[str], None],
    *,
    network: ModelConfig,
    profile: Path | None,
    whole: bool,
) -> dict[str, Any]:
    """Measure one network; the function can be pickled, to be called in another process."""
    with _explained():
        _prepare_jax(against)
        from resnet_jax.benchmarking.benchmark import measure_all

        return measure_all(network, image_size, batch_size, repeats, against, profile, say, whole=whole)


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
