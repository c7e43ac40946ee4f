"""The pages of docs/ and README.md are programs: each runs, without a warning, and prints what it shows."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from pages import FENCE, PAGES, ROOT
from PIL import Image

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
    # Decimals depend on the processor: by 0.05, or by one unit where a page shows one decimal only.
    for number, shown, printed in zip(numbers, expected_numbers, NUMBER.findall(expected), strict=True):
        digits = len(printed.partition("e")[0].partition(".")[2])
        assert number == pytest.approx(shown, abs=0.1 + 1e-9 if digits == 1 else 0.05)


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
