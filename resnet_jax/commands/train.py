"""`resnet-jax train`, in a checkout also `train.py`: one run, from its recipe to its summary."""

import logging
import sys
import threading
import warnings
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated

import absl.logging
import tyro

from resnet_jax.commands.usage import fitting_help
from resnet_jax.config import Config, DistributedConfig
from resnet_jax.hardware.compilation_cache import keep_compiled
from resnet_jax.recipe import parse
from resnet_jax.runs.bucket import is_url


@dataclass(frozen=True)
class Arguments(Config):
    """Train a network, or resume the run in --workdir.

    Example: resnet-jax train --config configs/digits.py --train.epochs 10

    Also: --config PATH, the recipe to start from, or the config.json of a run to start again.
    """

    workdir: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None
    """Run folder, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; a run of this configuration in it is resumed. By
    default runs/<config>-<time>."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Weights & Biases project to log to; needs the extra `wandb`. By default none."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)


def train(args: list[str] | None = None, *, prog: str = "resnet-jax train") -> None:
    """Run the command with `args`, by default those of the command line.

    Raises:
        UsageError, UserError, Interrupted: see `resnet_jax.training.loop.train`.
    """
    with fitting_help(sys.argv if args is None else args):
        recipe, config, arguments = parse(Arguments, args, prog=prog)

    keep_compiled()
    from resnet_jax.hardware.processes import gather  # after the usage errors: importing JAX takes seconds
    from resnet_jax.training import loop
    from resnet_jax.training.distributed import joined

    _hush_checkpoint_writers()
    with joined(**asdict(arguments.distributed)):
        new = f"runs/{recipe.stem}-{datetime.now():%Y%m%d-%H%M%S}"
        workdir = arguments.workdir or gather(new)[0]  # the clocks of the processes differ
        loop.train(config, workdir if is_url(workdir) else Path(workdir), wandb_project=arguments.wandb)


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
