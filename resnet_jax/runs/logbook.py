"""What happens in a run, line by line: `metrics.jsonl`, TensorBoard events and, on request, Weights & Biases."""

import json
import math
from pathlib import Path
from typing import Any

from resnet_jax.checked_text import GrowingText
from resnet_jax.config import Config, as_dict
from resnet_jax.errors import UsageError
from resnet_jax.hardware.processes import is_first
from resnet_jax.runs.environment import record_start
from resnet_jax.runs.events import EventFile
from resnet_jax.runs.folder import read_metrics, write_json


class Logbook:
    """Writes what happens in a run into its folder; a context manager, which closes the files.

    Args:
        workdir: the run folder.
        config: the whole configuration.
        step: step that the run continues from; later lines of an interrupted run are removed and written again.
        wandb_project: Weights & Biases project to log to as well; None for none.
    """

    def __init__(self, workdir: Path, config: Config, *, step: int, wandb_project: str | None):
        self._wandb = None
        if wandb_project is not None:
            self._wandb = _import_wandb().init(
                project=wandb_project, name=workdir.name, id=workdir.name, config=as_dict(config), resume="allow"
            )
        self.workdir = workdir
        record_start(workdir)
        path = workdir / "metrics.jsonl"
        lines = [line for line in read_metrics(workdir) if line["step"] <= step]
        self._metrics = GrowingText(path, "".join(json.dumps(line) + "\n" for line in lines))
        self._events = EventFile(workdir / "tensorboard", step=step)

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(self, *error) -> None:
        self._metrics.close()
        self._events.close()
        if self._wandb:
            self._wandb.finish()

    def write(self, **values: Any) -> None:
        """Add a line with `step`, `epoch`, `split` and figures; accuracies are shares, losses nats."""
        self._metrics.add(json.dumps(values))
        finite = {key: value for key, value in values.items() if isinstance(value, float) and math.isfinite(value)}
        figures = {f"{values['split']}/{key}": value for key, value in finite.items()}
        self._events.write(values["step"], figures)
        if self._wandb:
            self._wandb.log(figures, step=values["step"])

    def finish(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, which marks the run as finished."""
        write_json(self.workdir / "summary.json", summary)
        if self._wandb:
            self._wandb.summary.update(summary)


class SilentLogbook(Logbook):
    """The logbook of a process that writes nothing, since process 0 does."""

    def __init__(self) -> None:
        pass

    def __exit__(self, *error) -> None:
        pass

    def write(self, **values: Any) -> None:
        """Do nothing."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Do nothing."""


def open_logbook(workdir: Path, config: Config, *, step: int, wandb_project: str | None) -> Logbook:
    """Return the `Logbook` of a run; in a process that does not write, one that does nothing."""
    return Logbook(workdir, config, step=step, wandb_project=wandb_project) if is_first() else SilentLogbook()


def _import_wandb():
    try:
        import wandb
    except ImportError:
        raise UsageError(
            "--wandb: Weights & Biases is not installed; pip install -e '.[wandb]' in a checkout of this project"
        ) from None
    return wandb
