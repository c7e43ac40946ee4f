"""Recipes: files whose `get_config()` returns the configuration of a run."""

import argparse
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from resnet_jax.config import Config, from_dict
from resnet_jax.errors import UsageError, UserError
from resnet_jax.json_files import read_json

Arguments = TypeVar("Arguments", bound=Config)
CHECKOUT = Path(__file__).parent.parent / "configs"
CONFIGS = CHECKOUT if (CHECKOUT / "digits.py").exists() else Path(__file__).parent / "configs"
"""Folder of the recipes: that of the checkout, or of the installed package."""


def parse(arguments: type[Arguments], args: list[str] | None = None, *, prog: str) -> tuple[Path, Config, Arguments]:
    """Parse a command line: `--config PATH`, the recipe to start from, and fields as `--section.field value`.

    Args:
        arguments: a subclass of `Config`, whose further fields are options of their own.
        args: the words of the command line; those of this process by default.
        prog: name of the program in messages.

    Returns:
        The recipe's path (configs/digits.py by default), the configuration, and all arguments.
    """
    if not (sys.argv[1:] if args is None else args):
        raise UsageError(
            f"--config: got nothing, expected a recipe, such as --config configs/digits.py (available: {_recipes()}); "
            f"{prog} --help shows all options"
        )
    path, config, parsed = parse_optional(arguments, args, prog=prog, option="--config", default=CONFIGS / "digits.py")
    assert path is not None
    return path, config, parsed


def parse_optional(
    arguments: type[Arguments], args: list[str] | None, *, prog: str, option: str, default: Path | None = None
) -> tuple[Path | None, Config, Arguments]:
    """Parse a command line as `parse` does, with the recipe in `option`; without any, the fields have their defaults.

    Args:
        arguments: a subclass of `Config`, whose further fields are options of their own.
        args: the words of the command line; those of this process by default.
        prog: name of the program in messages.
        option: whose value is the recipe's path.
        default: recipe that is used without `option`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, type=Path, dest="recipe", default=default)
    known, rest = parser.parse_known_args(args)
    config = Config() if known.recipe is None else load_config(known.recipe, option)
    sections = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    parsed = tyro.cli(arguments, default=arguments(**sections), args=rest, prog=prog)
    config = Config(**{name: getattr(parsed, name) for name in sections})
    if config.data.dir is not None:  # the run's configuration is also read from other folders
        config = replace(config, data=replace(config.data, dir=config.data.dir.expanduser().absolute()))
    return known.recipe, config, parsed


def load_config(path: Path, option: str = "--config") -> Config:
    """Run `get_config()` of a recipe, or read the `config.json` of a run.

    Args:
        path: "configs/NAME.py" is found from any folder, because the package includes these recipes.
        option: that gave the path, for messages.

    Raises:
        UsageError: there is no such file, no such function in it, or it fails.
    """
    if not path.exists() and path.parent.name == CONFIGS.name:
        path = CONFIGS / path.name
    if not path.is_file() or path.suffix not in (".py", ".json"):
        raise UsageError(
            f"{option}: there is no Python file {path} and no run's config.json of that name; available: {_recipes()}"
        )
    if path.suffix == ".json":
        try:
            return from_dict(read_json(path, dict[str, Any], "give the config.json of a run, or a recipe"))
        except UserError as error:
            raise UsageError(f"{option}: {path}: {error}") from error
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _importing_from(path.absolute().parent):  # a recipe may be a diff over its neighbor
            spec.loader.exec_module(module)
            config = module.get_config() if hasattr(module, "get_config") else None
    except UserError:
        raise
    except Exception as error:
        raise UsageError(
            f"{option}: {_place(error, path)}: {type(error).__name__}: {error}; correct it there"
        ) from error
    if not isinstance(config, Config):
        raise UsageError(f"{option}: {path} has no function get_config() that returns a resnet_jax.config.Config")
    return config


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Import modules from a folder first, and leave no trace of them: the next recipe's neighbors may have their names.

    A neighbor also comes before a module of its name that was imported from elsewhere, but not before Python's own.
    """
    neighbors = {file.stem for file in folder.glob("*.py")} - sys.stdlib_module_names
    before = {name: sys.modules.pop(name) for name in neighbors & sys.modules.keys()}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in neighbors & sys.modules.keys():
            del sys.modules[name]
        sys.modules.update(before)


def _recipes() -> str:
    return ", ".join(f"configs/{each.name}" for each in sorted(CONFIGS.glob("*.py")))


def _place(error: Exception, recipe: Path) -> str:
    """Return the file and line that an error comes from, in the recipe or those beside it."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    line = [frame for frame in frames if Path(frame.filename).parent == recipe.absolute().parent][-1]
    return f"{line.filename}, line {line.lineno}"
