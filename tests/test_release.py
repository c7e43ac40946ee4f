"""What belongs to a release agrees with the package."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import resnet_jax
from resnet_jax.cli import COMMANDS

REPO = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())


def jobs(workflow: str) -> dict:
    return yaml.safe_load((REPO / ".github" / "workflows" / f"{workflow}.yml").read_text())["jobs"]


def blocks(page: str) -> list[str]:
    """Return the shell blocks of a page."""
    return re.findall(r"```sh\n(.*?)```", (REPO / page).read_text(), re.DOTALL)


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+),", (REPO / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and citation["version"] == newest[1] == resnet_jax.__version__


def test_the_public_workflow_runs_the_two_commands_of_the_readme():
    assert commands(jobs("tests")["readme"]) == blocks("README.md")[0].splitlines()


def test_the_site_is_built_for_publishing_as_contributors_build_it():
    (command,) = commands(jobs("docs")["build"])
    assert any(command in block for block in blocks("CONTRIBUTING.md"))


def test_a_release_is_published_after_the_tests_and_only_if_its_wheel_works_on_every_python():
    release, tests = jobs("release"), jobs("tests")["readme"]
    assert release["publish"]["needs"] == ["tests", "installed"]
    assert release["installed"]["strategy"]["matrix"] == tests["strategy"]["matrix"]
    declared = [each.rpartition(" :: 3.")[2] for each in PROJECT["project"]["classifiers"] if " :: 3." in each]
    assert tests["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in declared]


def test_the_readme_on_the_package_index_has_no_link_within_the_repository():
    text = (REPO / "README.md").read_text()
    for each in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    assert [link for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith(("https:", "#"))] == []
    assert "](https://raw.githubusercontent.com/resnet-jax/resnet_jax/main/docs/images/digits.png)" in text


@pytest.mark.parametrize("path", sorted((REPO / "docker").iterdir()), ids=lambda path: path.name)
def test_an_image_installs_an_extra_that_exists(path):
    (extra,) = re.findall(r"pip install .*\[(\w+)\]", path.read_text())
    assert re.search(rf"^{extra} = \[", (REPO / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_changelog_names_every_command():
    named = set(re.findall(r"`(\w+)`", (REPO / "CHANGELOG.md").read_text().replace("\n", " ")))
    assert set(COMMANDS) <= named
