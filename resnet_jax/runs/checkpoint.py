"""Checkpoints with Orbax: written in the background, whole or not at all, restored onto any number of devices."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from jaxtyping import PyTree

from resnet_jax.errors import UserError

policies = ocp.checkpoint_managers
UNKNOWN = -1.0  # score of a checkpoint that was not evaluated: below any accuracy


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    step: int
    state: PyTree
    info: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, a folder `<step>` each, with `state` (arrays) and `info` (JSON) inside.

    Args:
        directory: holds the folders; made if it does not exist.
        keep: latest checkpoints kept.
        best: keep the checkpoint with the highest score, an accuracy, as well.
    """

    def __init__(self, directory: Path, *, keep: int, best: bool):
        self.directory = directory.absolute()
        self._best = best
        kept = [policies.LatestN(keep), policies.BestN(get_metric_fn=_score, n=1)] if best else [policies.LatestN(keep)]
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                best_fn=_score if best else None,
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            ),
        )

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree, info: dict[str, Any], *, score: float | None = None) -> None:
        """Copies `state` off the devices and starts to write it; a checkpoint of this step that exists is left alone.

        Raises:
            UserError: this or the previous checkpoint could not be written.
        """
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info))
        metrics = {"score": UNKNOWN if score is None else score} if self._best else None
        self._guard(lambda: self._manager.save(step, args=arguments, metrics=metrics, force=True))

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
            UserError: it could not be.
        """
        self._guard(self._manager.wait_until_finished)

    def restore(self, like: PyTree, sharding: Sharding, report: Callable[[str], None]) -> Restored | None:
        """Reads the latest checkpoint that can be read; None where there is none at all.

        Args:
            like: a state of the wanted structure, of which shapes and types are used.
            sharding: where the arrays go, whatever devices they were saved from.
            report: is told of each checkpoint that cannot be read, which is then renamed to `<step>.unreadable`.

        Raises:
            UserError: there are checkpoints and none can be read.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        found = self.steps
        for step in reversed(found):
            arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), info=ocp.args.JsonRestore())
            try:
                read = self._manager.restore(step, args=arguments)
                return Restored(step, read["state"], read["info"])
            except (MemoryError, jax.errors.JaxRuntimeError):
                raise  # a fault of the machine, not of the file
            except Exception as error:  # whatever a damaged file makes Orbax or TensorStore raise
                reason = str(error).split("\n")[0][:200]
                report(f"checkpoint {step} in {self.directory} can't be read ({reason}); trying the one before")
                self._set_aside(step)
        if found:
            raise UserError(
                f"none of the checkpoints {found} in {self.directory} can be read: they were set aside as "
                "<step>.unreadable; restore one from a copy, or start again with another --workdir"
            )
        return None

    def close(self) -> None:
        """Waits for what is being written and lets go of the folder."""
        self._guard(self._manager.close)

    def _set_aside(self, step: int) -> None:
        target = self.directory / f"{step}.unreadable"
        shutil.rmtree(target, ignore_errors=True)
        (self.directory / str(step)).rename(target)
        self._manager.reload()

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore reports a full disk as a ValueError
            complete = [path.name for path in self.directory.glob("[0-9]*") if path.name.isdigit()]
            last = max(map(int, complete), default=None)
            reason = (str(error) or repr(error)).splitlines()[0][:300]
            kept = f"the checkpoint of step {last} is complete" if last else "there is no earlier checkpoint"
            raise UserError(
                f"a checkpoint could not be written to {self.directory}: {reason}; {kept}. "
                "Make room or mend the permissions, then run the same command with the same --workdir to go on"
            ) from error


def read_evaluated(directory: Path) -> Restored:
    """Reads the weights to evaluate (the averages where they are kept) of the latest checkpoint, as NumPy arrays.

    Returns:
        `state` is {"params": ..., "batch_stats": ...}, whatever devices it was saved from.

    Raises:
        UserError: there is no checkpoint, or it can't be read.
    """
    steps = [int(path.name) for path in directory.glob("[0-9]*") if path.name.isdigit()]
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train until the first one is written")
    path = directory.absolute() / str(max(steps))
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            saved = checkpointer.metadata(path / "state").item_metadata["train"]
            prefix = "" if saved["ema_params"] is None else "ema_"
            wanted = {"train": {prefix + name: saved[prefix + name] for name in ("params", "batch_stats")}}
            arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=arrays, partial_restore=True)
            read = checkpointer.restore(path / "state", args=arguments)["train"]
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            info = checkpointer.restore(path / "info")
    except Exception as error:  # whatever a damaged file makes Orbax or TensorStore raise
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"checkpoint {path} can't be read ({reason}): move it away to use the one before") from error
    return Restored(max(steps), {name.removeprefix(prefix): tree for name, tree in read.items()}, info)


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]
