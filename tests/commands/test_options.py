"""The options that messages name: the command that prints a message has them.

This holds for the modules that a single command uses. Those that several use were read by hand: what they say of an
option is within a command, such as `train --data.image-size`, or is printed by those commands alone that have it.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from resnet_jax.cli import COMMANDS, call
from resnet_jax.commands.plan import _naming_the_recipe
from resnet_jax.errors import UsageError

PACKAGE = Path(__file__).parents[2] / "resnet_jax"
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*[a-z]")
QUOTED = re.compile(r"`[\w -]+ --[^`]*`")


def path_of(module: str) -> Path:
    return PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")


@cache
def imported(module: str) -> set[str]:
    """Return the modules of the package that a module imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_jax"):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if path_of(name).is_file()}


def reached(command: str) -> set[str]:
    """Return the modules that a command imports, directly or not."""
    waiting, found = [f"resnet_jax.commands.{command}"], set()
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += imported(module)
    return found


@cache
def named_options(module: str) -> set[str]:
    """Return the options in the strings of a module, but not in its docstrings and in whole commands."""
    tree = ast.parse(path_of(module).read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    ]
    return {option for text in strings for option in OPTION.findall(QUOTED.sub("", text))}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_that_its_messages_name(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        call([command, "--help"])
    options = {"--help", "--config", *OPTION.findall(capsys.readouterr().out)}
    others = set().union(*(reached(other) for other in COMMANDS if other != command))
    own = reached(command) - others
    assert f"resnet_jax.commands.{command}" in own
    missing = {module: named_options(module) - options for module in own}
    assert {module: names for module, names in missing.items() if names} == {}


def test_plan_names_the_recipes_value_where_the_trainer_would_name_its_option():
    with pytest.raises(UsageError, match=r"^the recipe's augment\.small-size: got 24"), _naming_the_recipe():
        raise UsageError("--augment.small-size: got 24, expected less than the images' 16 pixels")
