"""Checkpoints with Orbax: written in the background, complete or not at all, restored onto any number of devices."""

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Sharding
from jaxtyping import PyTree

from resnet_jax.errors import UserError
from resnet_jax.hardware.processes import count, first_only, is_first
from resnet_jax.runs.folder import complete_steps
from resnet_jax.runs.manifest import check_manifest, write_manifest
from resnet_jax.runs.sources import check_sources
from resnet_jax.runs.stored import Restored, reason, stored_structure, structure_of

policies = ocp.checkpoint_managers
UNKNOWN = -1.0  # score of a checkpoint that was not evaluated: below any accuracy


class Checkpoints:
    """The checkpoints of one run: a folder `<step>` for each, with `state` (arrays) and `info` (JSON) inside.

    A damaged one is renamed to `<step>.unreadable` at once: with a wrong score it would take the place of the best.

    Args:
        directory: holds the folders; made if it does not exist.
        keep: number of the latest checkpoints to keep.
        best: keep the checkpoint with the highest score, an accuracy, as well.
        upload: is given each complete checkpoint and its step, and can make the save fail; each process then has a
            directory of its own, and writes whole checkpoints.
    """

    def __init__(self, directory: Path, *, keep: int, best: bool, upload: Callable[[Path, int], None] | None = None):
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._best, self._upload = best, upload
        self._alone = upload is not None and count() > 1
        self._damaged: dict[int, str] = {}
        self._once(self._set_damaged_aside)
        kept = [policies.LatestN(keep), policies.BestN(get_metric_fn=_score, n=1)] if best else [policies.LatestN(keep)]
        processes = _only_this_process() if self._alone else ocp.options.MultiprocessingOptions()
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
                "info": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
            },
            options=ocp.CheckpointManagerOptions(
                best_fn=_score if best else None,
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
                create=False,
                multiprocessing_options=processes,
                async_options=ocp.AsyncOptions(
                    create_directories_asynchronously=not self._alone,  # would signal by names that processes share
                    post_finalization_callback=self._add_checksums,
                    barrier_sync_fn=_barrier if count() > 1 and not self._alone else None,
                ),
            ),
        )

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: PyTree, info: dict[str, Any], *, score: float | None = None) -> None:
        """Copy `state` off the devices and start to write it; an existing checkpoint of this step is not changed.

        Args:
            step: completed updates.
            state: arrays.
            info: metadata stored with them, in JSON's types; `score` is added.
            score: accuracy on held-out images, by which the best checkpoint is chosen.

        Raises:
            UserError: this or the previous checkpoint could not be written.
        """
        if step in self._manager.all_steps():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info | {"score": score})
        )
        metrics = {"score": UNKNOWN if score is None else score} if self._best else None
        self._guard(lambda: self._manager.save(step, args=arguments, metrics=metrics, force=True))

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            UserError: it could not be written.
        """
        self._guard(self._manager.wait_until_finished)

    def restore(
        self, like: PyTree, sharding: Sharding, report: Callable[[str], None], info: dict[str, Any] | None = None
    ) -> Restored | None:
        """Read the latest checkpoint that can be read; None if there is none at all.

        Args:
            like: a state of the expected structure, of which shapes and types are used.
            sharding: where the arrays go, whatever devices they were saved from.
            report: is told of each damaged checkpoint, also of those that were renamed before.
            info: metadata of the run that is to go on, which is compared with those stored.

        Raises:
            UserError: all checkpoints are damaged, or one has another structure or belongs to other images.
        """
        abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
        restored = None
        for step in reversed(self.steps):
            try:
                stored, structure = self._info(step), stored_structure(self.directory / str(step))
                check_sources(stored, info or {})
                self._check_structure(step, structure, structure_of(like))
                arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
                restored = Restored(step, self._manager.restore(step, args=arguments)["state"], stored)
                break
            except (MemoryError, jax.errors.JaxRuntimeError, UserError):
                raise  # not a fault of the file
            except Exception as error:  # whatever a damaged file makes Orbax or TensorStore raise
                self._once(partial(self._set_aside, step, error))
                self._manager.reload()
        for step, why in sorted(self._damaged.items(), reverse=True):
            report(f"can't read checkpoint {step} in {self.directory} ({why}); renamed to {step}.unreadable")
        unreadable = sorted(path.name for path in self.directory.glob("*.unreadable"))
        if restored is None and unreadable:
            raise UserError(
                f"none of the checkpoints in {self.directory} can be read ({', '.join(unreadable)}): restore one from "
                "a copy, or start again with another --workdir"
            )
        return restored

    def close(self) -> None:
        """Wait for what is being written and release the folder."""
        self._guard(self._manager.close)

    def _add_checksums(self) -> None:
        """Write the manifest of the checkpoint that is complete and about to get its final name, and upload it."""
        if not is_first():
            return
        for unnamed in self.directory.glob("*.orbax-checkpoint-tmp*"):
            write_manifest(unnamed)
            if self._upload is not None:
                self._upload(unnamed, int(unnamed.name.split(".")[0]))

    def _info(self, step: int) -> dict[str, Any]:
        return self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))["info"]

    def _check_structure(self, step: int, got: dict[str, str], expected: dict[str, str]) -> None:
        differing = sorted(key for key in got.keys() | expected.keys() if got.get(key) != expected.get(key))
        if differing:
            first = ", ".join(
                f"{key}: {got.get(key, 'absent')} -> {expected.get(key, 'absent')}" for key in differing[:3]
            )
            raise UserError(
                f"checkpoint {step} in {self.directory} holds another network or optimizer than this version trains: "
                f"differing arrays: {len(differing)} ({first}); use the version that wrote it, or another --workdir"
            )

    def _once(self, action: Callable[[], object]) -> None:
        """Do something with the directory in one process, or in each if each has its own."""
        (action if self._alone else partial(first_only, action))()

    def _set_damaged_aside(self) -> None:
        for step in complete_steps(self.directory):
            try:
                check_manifest(self.directory / str(step))
            except (ValueError, OSError) as error:
                self._set_aside(step, error)

    def _set_aside(self, step: int, error: Exception) -> None:
        target = self.directory / f"{step}.unreadable"
        shutil.rmtree(target, ignore_errors=True)
        (self.directory / str(step)).rename(target)
        self._damaged[step] = reason(error)

    def _guard(self, action: Callable[[], object]) -> None:
        try:
            action()
        except jax.errors.JaxRuntimeError:
            raise  # an error of a device, although it is a RuntimeError
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore reports a full disk as a ValueError
            last = max(complete_steps(self.directory), default=None)
            kept = f"the checkpoint of step {last} is complete" if last else "there is no earlier checkpoint"
            raise UserError(
                f"can't write a checkpoint to {self.directory}: {reason(error)}; {kept}. Free space or correct the "
                "permissions, then run the same command with the same --workdir to continue"
            ) from error


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _only_this_process() -> ocp.options.MultiprocessingOptions:
    """Make Orbax write whole checkpoints in each process, and wait for no other."""
    whole = ocp.type_handlers.ArrayHandler(primary_host=None, replica_id=None, use_replica_parallel=False)
    ocp.type_handlers.register_type_handler(jax.Array, whole, override=True)
    return ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )


def _barrier(*, key: str, timeout_ms: int) -> None:
    """Wait for the other processes, unless this one is about to end because it could not write."""
    if (failure := sys.exception()) is not None:  # Orbax would wait ten minutes before it raises it
        raise failure
    ocp.multihost.get_barrier_sync_fn()(key=key, timeout_ms=timeout_ms)
