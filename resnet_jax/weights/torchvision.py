"""Torchvision's checkpoint keys and layouts to and from the modules of this package; torch itself is not needed.

The modules carry torchvision's attribute names, so a key is the path of the module and of the variable, joined by dots:
`layer2[0].downsample[1].var` is `layer2.0.downsample.1.running_var`. Kernels are transposed, nothing is computed: a
round trip returns every bit.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike

from resnet_jax.errors import UserError

RENAMED = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
COUNTER = "num_batches_tracked"  # PyTorch counts BatchNorm's updates, and uses the number only where momentum is None
TO_TORCHVISION = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # by dimensions: vectors stay, IO -> OI, HWIO -> OIHW
FROM_TORCHVISION = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}


def to_torchvision(model: nnx.Module | nnx.State) -> dict[str, np.ndarray]:
    """Returns the weights under torchvision's keys and in its layouts, for `load_state_dict(strict=True)`.

    Args:
        model: a network of this package; or a state of one, complete or not (of gradients or averaged weights, say).

    Returns:
        Arrays in memory of their own, dtype unchanged; beside each running variance a `num_batches_tracked` of 0.
    """
    tensors = {}
    for path, variable in _variables(model).items():
        value = np.asarray(variable[...])
        tensors[_key(path)] = np.array(value.transpose(TO_TORCHVISION[value.ndim]), order="C")
        if path[-1] == "var":
            tensors[_key((*path[:-1], COUNTER))] = np.array(0, np.int64)
    return tensors


def load_torchvision(model: nnx.Module, tensors: Mapping[str, ArrayLike]) -> None:
    """Sets the parameters and running statistics of `model`, in place, from a torchvision state dict.

    Args:
        model: a network of this package; it may be abstract (`nnx.eval_shape`), which saves drawing weights.
        tensors: arrays, or torch tensors on the CPU, by key; `num_batches_tracked` is ignored.

    Raises:
        UserError: if keys are missing or unexpected or a shape differs; `model` is unchanged then.
    """
    variables = {_key(path): variable for path, variable in _variables(model).items()}
    arrays = {key: np.asarray(value) for key, value in tensors.items() if key.split(".")[-1] != COUNTER}
    wanted = {
        key: tuple(variable.shape[axis] for axis in TO_TORCHVISION[variable.ndim])
        for key, variable in variables.items()
    }
    _check({key: array.shape for key, array in arrays.items()}, wanted)
    for key, variable in variables.items():
        value = arrays[key].transpose(FROM_TORCHVISION[variable.ndim])
        variable.set_value(jnp.array(value, variable.dtype))


def _variables(model: nnx.Module | nnx.State) -> dict[tuple, nnx.Variable]:
    state = model if isinstance(model, nnx.State) else nnx.state(model, (nnx.Param, nnx.BatchStat))
    return dict(nnx.to_flat_state(state))


def _key(path: tuple) -> str:
    *modules, name = path
    return ".".join(str(part) for part in (*modules, RENAMED.get(name, name)))


def _check(got: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    faults = {
        "missing": sorted(wanted.keys() - got.keys()),
        "unexpected": sorted(got.keys() - wanted.keys()),
        "of another shape": [
            f"{key}: got {got[key]}, wanted {wanted[key]}"
            for key in sorted(wanted.keys() & got.keys())
            if got[key] != wanted[key]
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {fault} ({_first(keys)})" for fault, keys in faults.items() if keys)
        raise UserError(
            f"the checkpoint ({len(got)} tensors) does not fit the model ({len(wanted)}): {found}. Build the model as "
            "the checkpoint was (member of the family, width, stem, num_classes); for another number of classes, load "
            "first and then replace `model.fc`"
        )


def _first(items: Sequence[str], count: int = 3) -> str:
    return ", ".join(items[:count]) + (", ..." if len(items) > count else "")
