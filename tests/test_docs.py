"""The pages of docs/ and README.md are programs: each runs, without a warning, and prints what it shows."""

import ast
import csv
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

from resnet_jax.cli import COMMANDS, call

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


def commands(page: Path) -> list[str]:
    """Return the lines of a page's shell blocks, except those marked `no-run: REASON`."""
    blocks = FENCE.findall(page.read_text())
    return [line for kind, info, text in blocks if kind == "sh" and not info for line in text.splitlines()]


def run_commands(names: str, small: str, folder: Path, environment: dict[str, str]) -> str:
    """Run the commands of pages, whose files are in `folder`, with options for small trainings; return the output."""
    pages = [ROOT / "docs" / f"{name}.md" for name in names.split()]
    for kind, info, text in (block for page in pages for block in FENCE.findall(page.read_text())):
        if kind == "python":
            (folder / info.removeprefix(" file: ")).write_text(text)
    functions = f"""
        resnet-jax() {{ "{sys.executable}" -m resnet_jax "$@"; }}
        python() {{ if [ $1 = train.py ]; then resnet-jax train "${{@:2}}" {small}; else "{sys.executable}" "$@"; fi; }}
    """
    script = "\n".join([functions, *(line for page in pages for line in commands(page))])
    run = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow  # trains a narrow network
def test_the_commands_of_the_first_page_classify_digits(environment, tmp_path):
    last = run_commands("start", "--model.width 8 --train.epochs 2", tmp_path, environment).splitlines()[-5:]
    assert all(re.fullmatch(r"\d [01]\.\d+(e-\d+)?", line) for line in last)


@pytest.mark.slow  # trains two narrow networks and exports one
def test_the_commands_from_photographs_to_programs_with_the_export_agree(environment, tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name, color in (("cat", 60), ("dog", 180)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(color, color + 40, (44, 50, 3), np.uint8)
                Image.fromarray(image).save(tmp_path / "photos" / split / name / f"{number}.jpg")
    small = "--model.width 8 --train.epochs 1 --train.batch-size 8 --data.image-size 32 --augment.crop-padding 4"
    off = "--augment.cutout None --augment.small-size None --model.dtype float32"
    output = run_commands("images finetune predict export", f"{small} {off}", tmp_path, environment)
    classes = csv.DictReader((tmp_path / "classes.csv").read_text().splitlines())
    (found,) = (row["class"] for row in classes if (row["path"], row["rank"]) == ("photos/test/cat/0.jpg", "1"))
    with_onnx, with_stablehlo = output.splitlines()[-2:]
    assert with_onnx == found and set(ast.literal_eval(with_stablehlo)) == {"cat", "dog"}
    assert len(list((tmp_path / "seen").rglob("*.png"))) == 8


def test_the_functions_that_data_path_lists_exist():
    steps = re.findall(r"^\d+\. `(.+?):(.+?)`", (ROOT / "docs" / "data_path.md").read_text(), re.MULTILINE)
    assert len(steps) <= 18
    for path, name in steps:
        nodes = ast.walk(ast.parse((ROOT / path).read_text()))
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}, path


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_readme_and_notebooks_have_the_address_of_the_repository(path):
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    project = address.removeprefix("https://github.com/")
    badge = f"colab.research.google.com/github/{project}/blob/main/notebooks/{path.name})"
    assert badge in (ROOT / "README.md").read_text()
    assert address in path.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_give_a_command_the_options_that_it_has(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        call([command, "--help"])
    name = r"(?:resnet-jax train|train\.py)" if command == "train" else f"resnet-jax {command}"
    calls = re.findall(rf"\b{name} ((?:[^\n`\\&|#]|\\\n)*)", "\n".join(page.read_text() for page in PAGES))
    given = {option for line in calls for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", line)}
    assert sorted(given - {"--config"} - set(re.findall(r"--[a-z][\w.-]*\w", capsys.readouterr().out))) == []


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


def strings(path: Path) -> list[str]:
    """Return the strings in a file of the package, with an ellipsis for each value that is filled in."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""

    return [re.sub("…+", "…", text(node)) for node in ast.walk(ast.parse(path.read_text()))]


def test_the_messages_in_troubleshooting_are_printed_by_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    printed = "\n".join(text for path in (ROOT / "resnet_jax").rglob("*.py") for text in strings(path))
    quoted = re.findall(r"^### `(.+)`$", page, re.MULTILINE)
    assert len(quoted) == page.count("\n### ")
    assert [message for message in quoted if message.removesuffix("…").removeprefix("…") not in printed] == []


def places(page: Path) -> set[str]:
    """Return the names that a page's headings have in links."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_to_a_file(page):
    text = FENCE.sub("", page.read_text())
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text)
    assert [link for link, _ in links if not (page.parent / link).exists()] == []
    named = [(page.parent / link if link else page, place) for link, place in links if place]
    assert [f"{target}#{place}" for target, place in named if place not in places(target)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "LOG.md"], ids=lambda page: page.name)
def test_every_table_has_a_header_and_one_number_of_columns(page):
    for table in re.findall(r"(?:^\|.*\n)+", FENCE.sub("", page.read_text()), re.MULTILINE):
        header, rule, *rows = table.splitlines()
        assert re.fullmatch(r"[|: -]+", rule), header
        columns = {line.replace(r"\|", "").count("|") for line in (header, rule, *rows)}
        assert len(columns) == 1, header
