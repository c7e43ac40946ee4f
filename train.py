"""Trains a network: python train.py --config configs/digits.py [--section.field value ...] [--workdir DIR]"""

import argparse
import importlib.util
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import tyro
from rich.console import Console

from resnet_jax.config import Config
from resnet_jax.errors import UsageError, UserError

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Arguments(Config):
    """Trains a network, or resumes the run in --workdir. Also: --config PATH, the recipe to start from."""

    workdir: Path | None = None
    """Run folder; one that holds a run of this configuration is resumed. None: runs/<config>-<time>."""
    wandb: str | None = None
    """Weights & Biases project to log to; needs the extra `wandb`. None: off."""


def load_config(path: Path) -> Config:
    """Runs `get_config()` of a recipe.

    Raises:
        UsageError: there is no such file, or no such function in it.
    """
    if not path.is_file():
        known = ", ".join(f"configs/{each.name}" for each in sorted(CONFIGS.glob("*.py")))
        raise UsageError(f"--config: there is no file {path}; the recipes here are {known}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # a recipe may be a diff over its neighbour
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UsageError(f"--config: {path} has no function get_config() that returns a resnet_jax.config.Config")
    return module.get_config()


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, default=CONFIGS / "digits.py")
    known, rest = parser.parse_known_args()
    config = load_config(known.config)
    sections = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    arguments = tyro.cli(Arguments, default=Arguments(**sections), args=rest)
    config = Config(**{name: getattr(arguments, name) for name in sections})
    workdir = arguments.workdir or Path("runs") / f"{known.config.stem}-{datetime.now():%Y%m%d-%H%M%S}"

    from resnet_jax.training.loop import train  # after the usage errors: importing JAX takes seconds

    train(config, workdir, wandb_project=arguments.wandb)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
