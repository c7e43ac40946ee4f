"""What belongs to a release agrees with the package."""

import re
from pathlib import Path

import pytest
import yaml

import resnet_jax
from resnet_jax.cli import COMMANDS

REPO = Path(__file__).parent.parent


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+),", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and citation["version"] == newest[1] == resnet_jax.__version__


def test_the_public_workflow_runs_the_two_commands_of_the_readme():
    steps = yaml.safe_load((REPO / ".github/workflows/tests.yml").read_text())["jobs"]["readme"]["steps"]
    commands = re.search(r"## Two commands.*?```sh\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    assert commands and [step["run"] for step in steps if "run" in step] == commands[1].splitlines()


@pytest.mark.parametrize("path", sorted((REPO / "docker").iterdir()), ids=lambda path: path.name)
def test_an_image_installs_an_extra_that_exists(path):
    (extra,) = re.findall(r"pip install .*\[(\w+)\]", path.read_text())
    assert re.search(rf"^{extra} = \[", (REPO / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_changelog_names_every_command():
    named = set(re.findall(r"`(\w+)`", (REPO / "CHANGELOG.md").read_text().replace("\n", " ")))
    assert set(COMMANDS) <= named
