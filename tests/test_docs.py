"""The pages of docs/ and README.md are programs: each runs, without a warning, and prints what it shows."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_jax.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+\.\d+(?:e-?\d+)?")


def program(page: Path) -> tuple[str, str]:
    """Join a page's python blocks, except those marked `no-run: REASON` or `file: PATH`, and its output blocks."""
    blocks = FENCE.findall(page.read_text())
    code = [text for kind, info, text in blocks if kind == "python" and not info.startswith((" no-run: ", " file: "))]
    return "\n".join(code), "".join(text for kind, _, text in blocks if kind == "output")


def split_numbers(text: str) -> tuple[list[str], list[float]]:
    return NUMBER.split(text), [float(number) for number in NUMBER.findall(text)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return an environment with one compilation cache for all pages, which mostly compile the same network."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return os.environ | cache | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path_factory.mktemp("pages"))}


def marked(page: Path):
    """Mark all pages but the README as slow, because each compiles a whole network."""
    return pytest.param(page, marks=() if page.stem == "README" else pytest.mark.slow, id=page.stem)


def checkout(page: Path, folder: Path) -> Path:
    """Return a checkout with the files (`python file: PATH`) and lines (`diff PATH`) that a page adds to this one."""
    added = [
        (kind, info.split()[-1], text)
        for kind, info, text in FENCE.findall(page.read_text())
        if kind == "diff" or info.startswith(" file: ")
    ]
    if not added:
        return ROOT
    for name in ("resnet_jax", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name, text in added:
        if kind == "diff":  # at the end of the one list in the file
            before, end, after = (folder / name).read_text().rpartition("    ]\n)\n")
            text = f"{before}{text.removeprefix('+')}{end}{after}"
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if program(page)[0]])
def test_a_page_runs_and_prints_what_it_shows(page, environment, tmp_path):
    code, expected = program(page)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(checkout(page, tmp_path))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (text, numbers), (expected_text, expected_numbers) = split_numbers(run.stdout), split_numbers(expected)
    assert text == expected_text  # words and whole numbers are exact,
    assert numbers == pytest.approx(expected_numbers, abs=0.05)  # decimals depend on the processor


@pytest.mark.slow  # trains and exports a network
def test_the_commands_know_a_network_of_ones_own(environment, tmp_path):
    page = ROOT / "docs" / "own_network.md"
    (commands,) = (text for kind, _, text in FENCE.findall(page.read_text()) if kind == "sh")
    Image.fromarray(np.arange(0, 256, 4, np.uint8).reshape(8, 8)).save(tmp_path / "digits.png")
    lines = [line for line in commands.splitlines() if " plan " not in line or find_spec("libtpu")]
    function = f'resnet-jax() {{ "{sys.executable}" -m resnet_jax "$@"; }}'
    run = subprocess.run(
        ["bash", "-ec", "\n".join([function, *lines])],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(checkout(page, tmp_path))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(list((tmp_path / "seen").iterdir())) == 1 and "is slim" not in run.stderr


def test_the_functions_that_data_path_lists_exist():
    steps = re.findall(r"^\d+\. `(.+?):(.+?)`", (ROOT / "docs" / "data_path.md").read_text(), re.MULTILINE)
    assert len(steps) <= 18
    for path, name in steps:
        nodes = ast.walk(ast.parse((ROOT / path).read_text()))
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}, path


def test_readme_and_notebook_have_the_address_of_the_repository():
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    project = address.removeprefix("https://github.com/")
    assert f"colab.research.google.com/github/{project}/blob/main/notebooks/" in (ROOT / "README.md").read_text()
    assert f'REPOSITORY = \\"{address}\\"' in (ROOT / "notebooks" / "resnet18_colab.ipynb").read_text()


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"resnet-jax {name}" not in text] == []


def test_the_index_has_a_line_for_every_page():
    index = re.findall(r"^- \[.+?\]\((.+?)\): ", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(index) == [page.name for page in PAGES if page.parent.name == "docs" and page.name != "README.md"]


def test_the_reference_has_every_public_name():
    stub = re.findall(r" as (\w+)$", (ROOT / "resnet_jax" / "__init__.pyi").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^.. auto\w+:: (\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)) == sorted(
        stub
    )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_to_a_file(page):
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LOG.md"], ids=lambda page: page.name)
def test_every_table_has_a_header_and_one_number_of_columns(page):
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", page.read_text()), re.MULTILINE):
        header, rule, *rows = table.splitlines()
        assert re.fullmatch(r"[|: -]+", rule), header
        columns = {line.replace(r"\|", "").count("|") for line in (header, rule, *rows)}
        assert len(columns) == 1, header
