"""The help of every command names what its arguments take, and fits the terminal."""

import re

import pytest

from resnet_jax.cli import COMMANDS, call

POSITIONAL = {
    "prepare": "KIND",
    "predict": "MODEL IMAGE [IMAGE ...]",
    "evaluate": "MODEL",
    "export": "MODEL",
    "convert": "MODEL TARGET",
    "serve": "MODEL [MODEL ...]",
    "show": "RUN [RUN ...]",
}


@pytest.fixture
def help_lines(monkeypatch, capsys):
    """Return a function from a command and a number of columns to the lines of its help."""

    def show(name: str, columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end:
            call([name, "--help"])
        assert end.value.code == 0
        return capsys.readouterr().out.splitlines()

    return show


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_the_help_is_wider_than_the_terminal(help_lines, name, columns):
    lines = help_lines(name, columns)
    assert lines[0].startswith(f"usage: resnet-jax {name}") and max(map(len, lines)) <= columns


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_names_what_a_positional_argument_is(help_lines, name):
    usage = " ".join(help_lines(name, 200)[0].split()[3:])
    arguments = re.sub(r"\[-h\]|\[OPTIONS\]|\[--[^]]*\]", "", usage).split()
    assert " ".join(arguments) == POSITIONAL.get(name, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_argument_of_the_help_is_just_a_string_or_a_path(help_lines, name):
    options = [line for line in help_lines(name, 200) if line.startswith("│")]
    assert [line for line in options if re.search(r"\b(STR|PATH)\b", line)] == []


@pytest.mark.parametrize("word", ["resnet18", "None"])
def test_an_architecture_may_be_named_or_left_open(word):
    """A name for an argument replaces the list of its values only in the help."""
    with pytest.raises(Exception, match="no image found"):
        call(["predict", "model", "none*.png", "--arch", word])
