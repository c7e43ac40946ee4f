"""Run folders, read back to be shown beside each other."""

from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters
from typing import Any

from resnet_jax.errors import UserError
from resnet_jax.runs.folder import complete_steps, is_locked, read_json, read_metrics, read_summary

COLOURS = (  # to be told apart on white and on black
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#3f51ff", "#00a878"),
)


@dataclass(frozen=True)
class ShownRun:
    """What a run folder says, and how the run is marked."""

    name: str
    letter: str
    colour: str
    config: dict[str, Any]
    lines: list[dict[str, Any]]
    """Of `metrics.jsonl`."""
    summary: dict[str, Any] | None
    """None: not finished."""
    step: int
    """The last one that was logged or saved."""
    running: bool

    @property
    def split(self) -> str:
        """The split that is evaluated during the training: "val" where one is held out, else "test"."""
        return "test" if self.config["data"]["val_fraction"] is None else "val"

    def curve(self, split: str, figure: str) -> tuple[list[int], list[float]]:
        """Completed epochs, and the figure after each."""
        lines = [line for line in self.lines if line["split"] == split]
        return [line["epoch"] + 1 for line in lines], [line[figure] for line in lines]


def read_run(path: Path, number: int, name: str) -> ShownRun:
    if not (path / "config.json").is_file():
        inside = [str(file.parent) for file in sorted(path.glob("*/config.json"))]
        hint = f"name those in it: {' '.join(inside)}" if inside else "name a folder that train.py wrote (--workdir)"
        raise UserError(f"{path} holds no run: wanted is a folder with config.json and metrics.jsonl; {hint}")
    config, lines, summary = read_json(path / "config.json"), read_metrics(path), read_summary(path)
    saved = complete_steps(path / "checkpoints")
    return ShownRun(
        name=name,
        letter=ascii_letters[number % len(ascii_letters)],
        colour=COLOURS[number % len(COLOURS)],
        config=config,
        lines=lines,
        summary=summary,
        step=max([0, *saved, *(line["step"] for line in lines)]),
        running=summary is None and is_locked(path),
    )


def figures_of(run: ShownRun) -> dict[str, str]:
    """The run's row of the table; accuracy and loss are the latest ones where it has not ended."""
    data, model, summary = run.config["data"], run.config["model"], run.summary or {}
    trained, evaluated = ([line for line in run.lines if line["split"] == split] for split in ("train", run.split))
    latest = {f"test_{key}": value for key, value in evaluated[-1].items()} if evaluated else {}
    last = trained[-1] if trained else {}
    figures = summary or latest | {"images_per_second": last.get("images_per_second")}
    tta = next((key for key in figures if key.startswith("test_accuracy_tta_")), "")
    split = "" if summary or run.split == "test" else " (val)"
    return {
        "data set": summary.get("dataset") or (data["name"] if data["source"] == "tfds" else Path(data["dir"]).name),
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
        return "complete"
    total = last["step"] // (last["epoch"] + 1) * run.config["train"]["epochs"] if last else "?"
    return f"{'running, at' if run.running else 'stopped at'} step {run.step} of {total}"
