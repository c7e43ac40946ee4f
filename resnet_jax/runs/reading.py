"""Run folders, read back to be shown beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters
from typing import Any

from resnet_jax.config import Config, as_dict
from resnet_jax.errors import UserError, printable
from resnet_jax.json_files import read_json
from resnet_jax.runs.folder import REMEDY, complete_steps, is_locked, read_metrics, read_summary

COLORS = (  # distinguishable from each other, on white and on black
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#3f51ff", "#00a878"),
)


@dataclass(frozen=True)
class ShownRun:
    """The contents of a run folder, with the letter and the color that mark the run."""

    name: str
    letter: str
    color: str
    config: dict[str, Any]
    """Configuration; fields that an older version did not have are the defaults."""
    lines: list[dict[str, Any]]
    """Lines of `metrics.jsonl`."""
    summary: dict[str, Any] | None
    """Contents of `summary.json`; None if the run has not finished."""
    step: int
    """Last step that was logged or saved."""
    running: bool | None
    """Whether a process is training in it; None if that can't be seen, in a copy."""

    @property
    def empty(self) -> bool:
        """Whether the run ended before a step that was logged or saved."""
        return self.step == 0 and not self.running and self.summary is None

    @property
    def split(self) -> str:
        """Split that is evaluated during the training: "val" if images are held out, otherwise "test"."""
        return "test" if self.config["data"]["val_fraction"] is None else "val"

    def curve(self, split: str, figure: str) -> tuple[list[int], list[float]]:
        """Return the completed epochs, and the figure after each of them."""
        lines = [line for line in self.lines if line["split"] == split]
        return [line["epoch"] + 1 for line in lines], [line[figure] for line in lines]


def read_run(path: Path, number: int, name: str) -> ShownRun:
    """Read a run folder.

    Args:
        path: the folder.
        number: of the run among those shown, which chooses its letter and its color.
        name: shown for the run.

    Raises:
        UserError: the folder does not hold a run, or its files are damaged.
    """
    if not (path / "config.json").is_file():
        inside = [str(file.parent) for file in sorted(path.glob("*/config.json"))]
        remedy = f"name the runs in it: {' '.join(inside)}" if inside else "give a folder that train.py has written"
        raise UserError(f"{path} is not a run folder: expected config.json and metrics.jsonl in it; {remedy}")
    stored = read_json(path / "config.json", dict[str, dict[str, Any]], REMEDY)
    lines, summary = read_metrics(path), read_summary(path)
    saved = complete_steps(path / "checkpoints")
    return ShownRun(
        name=printable(name),
        letter=ascii_letters[number % len(ascii_letters)],
        color=COLORS[number % len(COLORS)],
        config={section: fields | stored.get(section, {}) for section, fields in as_dict(Config()).items()},
        lines=lines,
        summary=summary,
        step=max([0, *saved, *(line["step"] for line in lines)]),
        running=is_locked(path) if summary is None else False,
    )


def accuracy_limits(runs: Sequence[ShownRun]) -> tuple[float, float]:
    """Return the range of accuracies to show: the first eighth of each curve would compress the rest."""
    curves = [run.curve(run.split, "accuracy")[1] for run in runs]
    late = [value for values in curves for value in values[len(values) // 8 :]] or [0.0, 1.0]
    margin = max(0.005, 0.1 * (max(late) - min(late)))
    return max(0.0, min(late) - margin), min(1.0, max(late) + margin)


def figures_of(run: ShownRun) -> dict[str, str]:
    """Return the row of the run in the table, by column; until it has finished, with its latest accuracy and loss."""
    data, model, summary = run.config["data"], run.config["model"], run.summary or {}
    dataset = data["name"] if data["source"] == "tfds" else Path(data["dir"]).name
    trained, evaluated = ([line for line in run.lines if line["split"] == split] for split in ("train", run.split))
    latest = {f"test_{key}": value for key, value in evaluated[-1].items()} if evaluated else {}
    last = trained[-1] if trained else {}
    figures = summary or latest | {"images_per_second": last.get("images_per_second")}
    tta = next((key for key in figures if key.startswith("test_accuracy_tta_")), "")
    split = "" if summary or run.split == "test" else " (val)"
    return {
        "data set": printable(summary.get("dataset") or dataset),
        "model": f"{model['arch']}/{model['width']}",
        "epochs": f"{last.get('epoch', -1) + 1}/{run.config['train']['epochs']}",
        "state": _state(run, last),
        "test accuracy": _format(figures.get("test_accuracy"), ".2%", split),
        "with TTA": _format(figures.get(tta), ".2%", f" ({tta.removeprefix('test_accuracy_tta_')})"),
        "test loss": _format(figures.get("test_loss"), ".4f", split),
        "parameters": _format(figures.get("parameters"), ",", ""),
        "seconds": _format(figures.get("seconds"), ",.0f", ""),
        "images/s": _format(figures.get("images_per_second"), ",.0f", ""),
    }


def _format(value: int | float | None, specification: str, unit: str) -> str:
    return "" if value is None else f"{value:{specification}}{unit}"


def _state(run: ShownRun, last: dict[str, Any]) -> str:
    if run.summary:
        evaluated = run.summary.get("evaluated_step")
        return "complete" if evaluated in (None, run.step) else f"complete, best at step {evaluated}"
    total = last["step"] // (last["epoch"] + 1) * run.config["train"]["epochs"] if last else "?"
    state = {True: "running, at", False: "stopped at", None: "at"}[run.running]
    return f"{state} step {run.step} of {total}"
