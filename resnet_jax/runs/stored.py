"""Reading checkpoints on disk: their steps, metadata and structure, and the weights to evaluate."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from resnet_jax.errors import UserError
from resnet_jax.runs.folder import complete_steps
from resnet_jax.runs.manifest import check_manifest


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    step: int
    state: PyTree
    info: dict[str, Any]
    damaged: tuple[int, ...] = ()
    """Steps of the checkpoints that can't be read, in whose place this one was."""


class Described(NamedTuple):
    """The metadata of a checkpoint."""

    step: int
    info: dict[str, Any]


def read_evaluated(directory: Path) -> Restored:
    """Read the weights to evaluate, as NumPy arrays: of the best checkpoint, or of the last one if none has a score.

    If that one can't be read, the next best is taken, or the one before, and a warning is logged.

    Returns:
        `state` is {"params": ..., "batch_stats": ...}, the averages if they are kept.

    Raises:
        UserError: there is no checkpoint, or none can be read.
    """
    steps = complete_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train until the first one is written")
    infos: dict[int, dict[str, Any]] = {}
    damaged: dict[int, str] = {}
    for step in steps:
        with _noting(step, damaged):
            infos[step] = _read_info(directory.absolute() / str(step))
    scores = {step: info["score"] for step, info in infos.items() if isinstance(info.get("score"), int | float)}
    for step in sorted(infos, key=lambda step: (scores.get(step, -1.0), step), reverse=True):
        with _noting(step, damaged):
            check_manifest(directory.absolute() / str(step))
            weights = _read_weights(directory.absolute() / str(step))
            preferred = {other: why for other, why in damaged.items() if scores or other > step}
            _warn(directory, preferred, step, scores)
            return Restored(step, weights, infos[step], tuple(preferred))
    raise UserError(
        f"none of the checkpoints in {directory} can be read ({_listed(damaged)}): restore one from a copy, or train "
        "again"
    )


@contextmanager
def _noting(step: int, damaged: dict[int, str]) -> Iterator[None]:
    """Note in `damaged` what a file of a checkpoint that can't be read raises inside."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # not a fault of the file
    except Exception as error:  # whatever a damaged file makes Orbax or TensorStore raise
        damaged[step] = reason(error)


def _warn(directory: Path, damaged: dict[int, str], step: int, scores: dict[int, float]) -> None:
    """Say which checkpoint is used in the place of damaged ones."""
    if damaged:
        which = f", the best of the others on val with {scores[step]:.2%}" if step in scores else ""
        logging.getLogger(__name__).warning(
            "can't read checkpoint %s in %s; using checkpoint %d instead%s. The figures of a summary.json are those of "
            "the checkpoint that it names as evaluated_step",
            *(_listed(damaged), directory, step, which),
        )


def _listed(damaged: dict[int, str]) -> str:
    return "; ".join(f"{step}: {why}" for step, why in sorted(damaged.items()))


def read_latest_info(directory: Path) -> Described | None:
    """Read the newest checkpoint's metadata, or the newest that can be read and has the run's configuration."""
    for step in reversed(complete_steps(directory)):
        with _noting(step, {}):
            info = _read_info(directory.absolute() / str(step))
            if "config" in info:
                return Described(step, info)
    return None


def _read_info(path: Path) -> dict[str, Any]:
    check_manifest(path, below="info/")
    with closing(ocp.JsonCheckpointHandler()) as handler:  # a Checkpointer would wait for the other processes
        info = handler.restore(path / "info")
    if not isinstance(info, dict):
        raise ValueError("its metadata are not an object")
    return info


def _read_weights(path: Path) -> dict[str, PyTree]:
    with closing(ocp.PyTreeCheckpointHandler()) as handler:
        saved = handler.metadata(path / "state")["train"]
        prefix = "" if saved["ema_params"] is None else "ema_"
        chosen = {"train": {prefix + name: saved[prefix + name] for name in ("params", "batch_stats")}}
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), chosen)
        arguments = ocp.args.PyTreeRestore(item=chosen, restore_args=arrays, partial_restore=True)
        read = handler.restore(path / "state", args=arguments)["train"]
    return {name.removeprefix(prefix): tree for name, tree in read.items()}


def stored_structure(path: Path) -> dict[str, str]:
    """Return type and shape of each array of a checkpoint, by its path in the tree."""
    with closing(ocp.PyTreeCheckpointHandler()) as handler:
        return structure_of(handler.metadata(path / "state").tree)


def structure_of(tree: PyTree) -> dict[str, str]:
    """Return type and shape of each array of a tree, such as float32[3,3], by its path, as Orbax stores it."""
    return {_name(path): _form(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def arranged_like(like: PyTree, tree: PyTree) -> PyTree:
    """Return arrays that were read back in the structure of `like`: Orbax turns integer keys into strings."""
    arrays = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    return jax.tree.map_with_path(lambda path, _: arrays[_name(path)], like)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _form(leaf: Any) -> str:
    """Return a leaf's type and shape; random keys are stored as their words."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def reason(error: Exception) -> str:
    """Return the first line of an error, shortened."""
    return (str(error) or repr(error)).splitlines()[0][:200]
