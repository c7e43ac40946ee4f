"""Recipes: files whose `get_config()` returns the configuration of a run."""

import importlib.util
import sys
import traceback
from pathlib import Path

from resnet_jax.config import Config
from resnet_jax.errors import UsageError, UserError

CONFIGS = Path(__file__).parent.parent / "configs"
"""Those of the checkout; an installed package comes without."""


def load_config(path: Path) -> Config:
    """Runs `get_config()` of a recipe.

    Raises:
        UsageError: there is no such file, no such function in it, or it fails.
    """
    if not path.is_file() or path.suffix != ".py":
        known = ", ".join(f"configs/{each.name}" for each in sorted(CONFIGS.glob("*.py")))
        raise UsageError(f"--config: there is no Python file {path}; the recipes here are {known or 'none'}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # a recipe may be a diff over its neighbour
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except UserError:
        raise
    except Exception as error:
        raise UsageError(
            f"--config: {_place(error, path)}: {type(error).__name__}: {error}; correct it there"
        ) from error
    if not isinstance(config, Config):
        raise UsageError(f"--config: {path} has no function get_config() that returns a resnet_jax.config.Config")
    return config


def _place(error: Exception, recipe: Path) -> str:
    """The file and line that an error comes from, in the recipe or its neighbours."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    line = [frame for frame in frames if Path(frame.filename).parent == recipe.absolute().parent][-1]
    return f"{line.filename}, line {line.lineno}"
