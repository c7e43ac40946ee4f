"""Reading checkpoints on disk: their steps, metadata and structure, and the weights to evaluate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read_evaluated(directory: Path) -> Restored:
    """Read the weights to evaluate, as NumPy arrays: of the best checkpoint, or of the last one if none has a score.

    Returns:
        `state` is {"params": ..., "batch_stats": ...}, the averages if they are kept.

    Raises:
        UserError: there is no checkpoint, or it can't be read.
    """
    steps = complete_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train until the first one is written")
    path = directory.absolute() / str(steps[-1])
    try:
        infos = {}
        for step in steps:
            path = directory.absolute() / str(step)
            check_manifest(path, below="info/")
            infos[step] = _read_info(path)
        scores = {step: info["score"] for step, info in infos.items() if info.get("score") is not None}
        step = max(scores, key=lambda step: (scores[step], step)) if scores else steps[-1]
        path = directory.absolute() / str(step)
        check_manifest(path)
        return Restored(step, _read_weights(path), infos[step])
    except Exception as error:  # whatever a damaged file makes Orbax or TensorStore raise
        raise UserError(
            f"can't read checkpoint {path} ({reason(error)}): move it away to use the others, or restore it from a copy"
        ) from error


def _read_info(path: Path) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        return checkpointer.restore(path / "info")


def _read_weights(path: Path) -> dict[str, PyTree]:
    with ocp.PyTreeCheckpointer() as checkpointer:
        saved = checkpointer.metadata(path / "state").item_metadata["train"]
        prefix = "" if saved["ema_params"] is None else "ema_"
        chosen = {"train": {prefix + name: saved[prefix + name] for name in ("params", "batch_stats")}}
        arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), chosen)
        arguments = ocp.args.PyTreeRestore(item=chosen, restore_args=arrays, partial_restore=True)
        read = checkpointer.restore(path / "state", args=arguments)["train"]
    return {name.removeprefix(prefix): tree for name, tree in read.items()}


def stored_structure(path: Path) -> dict[str, str]:
    """Return type and shape of each array of a checkpoint, by its path in the tree."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return structure_of(checkpointer.metadata(path / "state").item_metadata.tree)


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
