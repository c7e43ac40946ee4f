"""Train a network: python train.py --config configs/digits.py [--section.field value ...] [--workdir DIR]"""

import logging
import sys
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import absl.logging

from resnet_jax.config import Config
from resnet_jax.errors import run
from resnet_jax.hardware.compilation_cache import keep_compiled
from resnet_jax.recipe import parse


@dataclass(frozen=True)
class Arguments(Config):
    """Train a network, or resume the run in --workdir. Also: --config PATH, the recipe to start from."""

    workdir: Path | None = None
    """Run folder; a run of this configuration in it is resumed. By default runs/<config>-<time>."""
    wandb: str | None = None
    """Weights & Biases project to log to; needs the extra `wandb`. By default none."""


def main() -> None:
    recipe, config, arguments = parse(Arguments)
    workdir = arguments.workdir or Path("runs") / f"{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}"

    keep_compiled()
    from resnet_jax.training.loop import train  # after the usage errors: importing JAX takes seconds

    _hush_checkpoint_writers()
    train(config, workdir, wandb_project=arguments.wandb)


def _hush_checkpoint_writers() -> None:
    """Keep two thousand lines of tracebacks of a failed write off the screen: the UserError says it in one line.

    Orbax logs each failure through absl and leaves others to asyncio, and TensorStore's threads report each callback
    that nobody waits for any more.
    """
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited")
    original = sys.unraisablehook
    sys.unraisablehook = lambda it: original(it) if threading.current_thread() is threading.main_thread() else None


if __name__ == "__main__":
    run(main, stopped="stopped at once; the same command with the same --workdir continues from the last checkpoint")
