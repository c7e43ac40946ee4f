"""Measure what matters on one GPU within half an hour, the most valuable first.

    python benchmarks/half_hour.py OUT [--minutes 25] [--data-dir FOLDER] [--tiny]

OUT gets results.json, report.md with one table, and the output of every measurement. The same command goes on with what
is missing or has failed. The records train on CIFAR-10, prepared in FOLDER; without it they are left out, as the
comparisons are where PyTorch is not installed. Nothing is downloaded. --tiny is for trying the script on a CPU, with
small networks; its figures mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "resnet_jax"]
VARIANTS = [sys.executable, str(ROOT / "benchmarks/variants.py")]


@dataclass(frozen=True)
class Measurement:
    """A command, and how to read the figure from what it prints."""

    name: str
    command: list[str]
    read: Callable[[str], str]
    goal: str = ""
    missing: str = ""
    """What it needs and is not here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    planned = measurements(arguments.out.resolve(), arguments.data_dir, arguments.tiny)
    for measurement in planned:
        if "figure" in results.get(measurement.name, {}):
            continue
        print(f"{measurement.name}: ", end="", flush=True)
        results[measurement.name] = result = measured(measurement, arguments.out, end - time.monotonic())
        print(result.get("figure", result.get("error")), flush=True)
        file.write_text(json.dumps(results, indent=2) + "\n")
        (arguments.out / "report.md").write_text(table(planned, results))
    print(f"{arguments.out / 'report.md'} has the table")


def measurements(out: Path, data_dir: Path | None, tiny: bool) -> list[Measurement]:
    """Return the measurements in the order of their value."""
    torch = "" if find_spec("torch") else "PyTorch (the extra parity)"
    size, large = (8, 16) if tiny else (32, 224)
    tests = [sys.executable, "-m", "pytest", "-n0", "-q", "-m", "gpu", "tests/test_gpu.py"]
    small = ["--width", "8", "--batch-size", "16", "--repeats", "1"] if tiny else ["--batch-size", "auto"]
    plain, wide = ([*COMMAND, "benchmark", "--json", "--image-size", str(it), *small] for it in (size, large))
    recipe = ["--train.epochs", "1", "--model.width", "8", "--runs", "1"] if tiny else ["--runs", "5"]
    variants = [*VARIANTS, *(["--tiny"] if tiny else [])]

    def record(percent: int, goal: str) -> Measurement:
        config, file = ROOT / f"configs/cifar10_{percent}.py", out / f"record_{percent}.json"
        command = [
            *COMMAND,
            "record",
            "--config",
            str(config),
            "--data.dir",
            str(data_dir),
            "--out",
            str(file),
            *recipe,
        ]
        return Measurement(
            f"{percent}% on CIFAR-10", command, lambda _: runs(file), goal, "" if data_dir else "--data-dir"
        )

    return [
        Measurement("tests on the GPU", tests, last_line, "all pass", "a GPU" if tiny else ""),
        Measurement(f"{size} px beside PyTorch", [*plain, "--against", "torch"], ratio, "1.25", torch),
        Measurement(f"{large} px beside PyTorch", [*wide, "--against", "torch"], ratio, "1.25", torch),
        Measurement(f"{size} px", [*plain, "--profile", str(out / "trace")], speed, "150,000 images/s"),
        record(94, "94% in 8 s"),
        record(96, "96% in 25 s"),
        Measurement("stream of photographs", [*variants, "stream"], last_line),
        Measurement("layouts of the compiler's choice", [*variants, "layouts"], last_line),
        Measurement("activations computed again", [*variants, "recompute"], last_line),
        Measurement(f"{large} px", [*wide, "--profile", str(out / "wide_trace")], speed),
    ]


def measured(measurement: Measurement, out: Path, seconds: float) -> dict[str, Any]:
    """Run a measurement; return its figure, or the error."""
    if measurement.missing:
        return {"error": f"needs {measurement.missing}"}
    if seconds < 1:
        return {"error": "no time left"}
    begin, environment = time.monotonic(), os.environ | {"RESNET_JAX_TESTS": "gpu"}
    log = out / f"{measurement.name.replace(' ', '_')}.log"
    try:
        with log.with_suffix(".err").open("w") as errors:
            run = subprocess.run(
                measurement.command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=seconds,
            )
    except subprocess.TimeoutExpired:
        return {"error": "no time left"}
    log.write_text(run.stdout)
    if run.returncode:
        return {"error": f"ended with {run.returncode}: see {log.with_suffix('.err').name}"}
    return {
        "figure": measurement.read(run.stdout),
        "seconds": round(time.monotonic() - begin, 1),
        "command": measurement.command,
    }


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def speed(text: str) -> str:
    """Read the output of the benchmark: its speed, and its longest operations."""
    found = json.loads(text)
    longest = "; ".join(f"{it['name']} {it['share']:.0%}" for it in found["operations"][:10])
    return f"{found['train_images_per_second']:,.0f} images/s at batch {found['batch_size']}; {longest}"


def ratio(text: str) -> str:
    found = json.loads(text)
    ratios = (f"{kind} {found[f'{kind}_ratio']:.2f}" for kind in ("train", "forward"))
    return f"{', '.join(ratios)} at batch {found['batch_size']}, PyTorch {found['torch_version']}"


def runs(file: Path) -> str:
    found = json.loads(file.read_text())["runs"]
    accuracies, seconds = ([run[name] for run in found] for name in ("test_accuracy", "seconds"))
    spread = f" +- {stdev(accuracies):.2%}" if len(found) > 1 else ""
    return f"{mean(accuracies):.2%}{spread} in {mean(seconds):.2f} s, {len(found)} runs"


def table(planned: list[Measurement], results: dict[str, dict[str, Any]]) -> str:
    rows = [
        f"| {it.name} | {found.get('figure', found.get('error'))} | {it.goal} |"
        for it in planned
        if (found := results.get(it.name))
    ]
    return "\n".join(["| what | figure | goal |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    main()
