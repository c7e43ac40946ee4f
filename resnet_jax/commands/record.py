"""`resnet-jax record`: complete training runs of a recipe, timed like speed records."""

import json
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from resnet_jax import errors
from resnet_jax.commands.usage import OptionalFile, fitting_help
from resnet_jax.config import Config, as_dict
from resnet_jax.recipe import parse


@dataclass(frozen=True)
class Arguments(Config):
    """Train a recipe several times, with consecutive seeds, and report mean and deviation of accuracy and seconds.

    Example: resnet-jax record --config configs/cifar10_94.py --runs 5

    The clock starts when the programs are compiled and the images are on the devices, and stops after the evaluation
    with its test-time augmentation. Also: --config PATH, the recipe.
    """

    runs: int = 5
    """Number of training runs."""
    out: OptionalFile = None
    """JSON file for all figures, versions and devices; it is replaced. By default record-<config>-<time>.json."""

    def __post_init__(self):
        errors.at_least(1, runs=self.runs)


def record(args: list[str] | None = None) -> None:
    """Run the command with `args`, by default those of the command line."""
    with fitting_help(sys.argv if args is None else args):
        recipe, config, arguments = parse(Arguments, args, prog="resnet-jax record")

    from resnet_jax.benchmarking.record import report, timed_training
    from resnet_jax.hardware.sharding import make_mesh
    from resnet_jax.runs.environment import environment
    from resnet_jax.training.images import read_images

    console = Console(highlight=False)
    mesh = make_mesh(config.train.batch_size)
    dataset = read_images(config, mesh.devices.flat[0])
    out = arguments.out or Path(f"record-{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}.json")
    results: list[dict[str, Any]] = []
    written = {"recipe": str(recipe), "config": as_dict(config), "environment": environment(), "runs": results}
    with errors.writing(out, "give another --out"):
        out.open("a").close()  # before the training, which would be lost
    for seed in range(config.train.seed, config.train.seed + arguments.runs):
        seeded = replace(config, train=replace(config.train, seed=seed))
        with Console(stderr=True).status(f"seed {seed}: compiling") as status:
            results.append({"seed": seed} | timed_training(seeded, dataset, mesh, status.update))
        last = results[-1]
        console.print(f"seed {seed}: {last['test_accuracy']:.2%} in {last['seconds']:.2f} s, {last['plain']:.2%} plain")
        with errors.writing(out, "free space; the figures above are measured"):
            out.write_text(json.dumps(written, indent=2) + "\n")
    console.print(report(results, f"{mesh.size} x {mesh.devices.flat[0].device_kind}") + f": {out}", soft_wrap=True)
