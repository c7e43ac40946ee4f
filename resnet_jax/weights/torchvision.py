"""Convert between torchvision's state dicts and the modules of this package, without torch.

The modules have torchvision's attribute names, so a key is the path of the module and of the variable, joined by dots:
`layer2[0].downsample[1].var` is `layer2.0.downsample.1.running_var`. Kernels are only transposed: a round trip
returns every bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import ArrayLike

from resnet_jax.errors import UserError
from resnet_jax.models.interface import ImageClassifier

RENAMED = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
RENAMED_PARTS = {"trunk": "features", "entry": "stem"}
"""Parts of a network whose names in torchvision are a method and an argument of the networks here."""
COUNTER = "num_batches_tracked"  # BatchNorm's updates in PyTorch, which uses it only if its momentum is None
TO_TORCHVISION = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}
"""Axes by their number: vectors stay, linear IO -> OI, maps HWC -> CHW, convolutions HWIO -> OIHW."""
FROM_TORCHVISION = {1: (0,), 2: (1, 0), 3: (1, 2, 0), 4: (2, 3, 1, 0)}


class Misfit(UserError):
    """The tensors do not fit the model."""


def to_torchvision(model: nnx.Module | nnx.State | Mapping) -> dict[str, np.ndarray]:
    """Return the weights under torchvision's keys and in its layouts, for `load_state_dict(strict=True)`.

    Args:
        model: a network of this package; or a state or nested dictionary of one, complete or not (for example of
            gradients or averaged weights).

    Returns:
        Arrays with their own memory and unchanged dtype; for each running variance also `num_batches_tracked`, int64,
        which is 0 if the model was not loaded from weights with a count.
    """
    tensors, counters = {}, _counters(model)
    for path, value in _flat(model).items():
        value = np.asarray(value)
        tensors[key_of(path)] = np.array(value.transpose(TO_TORCHVISION[value.ndim]), order="C")
        if path[-1] == "var":
            key = key_of((*path[:-1], COUNTER))
            tensors[key] = np.array(getattr(counters.get(key), COUNTER, 0), np.int64)
    return tensors


def torchvision_shapes(model: nnx.Module | ImageClassifier) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of `to_torchvision(model)` except the counters; `model` may be abstract."""
    return {
        key_of(path): tuple(variable.shape[axis] for axis in TO_TORCHVISION[len(variable.shape)])
        for path, variable in _variables(model).items()
    }


def assign(
    model: ImageClassifier, tensors: Mapping[str, ArrayLike], *, head: Literal["strict", "fresh"] = "strict"
) -> None:
    """Set the parameters and running statistics of `model`, in place, from a torchvision state dict.

    Args:
        model: a network of this package; it may be abstract (`nnx.eval_shape`), which saves drawing weights.
        tensors: arrays, or torch tensors, by key; `num_batches_tracked` may be missing.
        head: "fresh" keeps the model's own classifier and ignores the tensors for it.

    Raises:
        Misfit: keys are missing or unexpected, or a shape differs; `model` is then unchanged.
        UserError: a value is not finite in float32, a tensor has no values, or a classifier to keep is abstract;
            likewise.
    """
    variables = {key_of(path): variable for path, variable in _variables(model).items()}
    expected = torchvision_shapes(model)
    arrays = {key: as_array(value) for key, value in tensors.items()}
    counts = {key: arrays.pop(key) for key in list(arrays) if key.split(".")[-1] == COUNTER}
    if head == "fresh":
        if any(is_head(key, model.head) and _is_abstract(variable) for key, variable in variables.items()):
            raise UserError('head="fresh" got a model without weights: build it without eval_shape')
        arrays = {key: array for key, array in arrays.items() if not is_head(key, model.head)}
        expected = {key: shape for key, shape in expected.items() if not is_head(key, model.head)}
    _check({key: array.shape for key, array in arrays.items()}, expected)
    if other := [key for key in expected if not jnp.issubdtype(arrays[key].dtype, jnp.floating)]:
        kinds = ", ".join(sorted({str(arrays[key].dtype) for key in other}))
        raise UserError(
            f"the weights have {len(other)} tensors of type {kinds} ({_first(other)}): expected floating point; save "
            "the network's weights before their quantization"
        )
    with np.errstate(over="ignore"):  # of float64, and reported below
        values = {key: arrays[key].astype(variables[key].dtype, copy=False) for key in expected}
    if broken := [key for key, value in values.items() if not np.isfinite(value).all()]:
        raise UserError(
            f"the weights have NaN or infinity in {len(broken)} of {len(expected)} tensors ({_first(broken)}): give "
            "others, such as an earlier checkpoint of the same training"
        )
    for key, value in values.items():
        variables[key].set_value(jnp.array(value.transpose(FROM_TORCHVISION[value.ndim])))
    for key, norm in _counters(model).items():
        setattr(norm, COUNTER, int(counts.get(key, 0)))


def as_array(value: Any) -> np.ndarray:
    """Return a tensor as an array. A torch tensor is recognized by its methods, since torch is not imported here.

    Raises:
        UserError: the tensor has no values.
    """
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach()
    try:
        return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()  # NumPy has no bfloat16
    except (NotImplementedError, TypeError) as error:  # on the device "meta"; sparse
        reason = str(error).splitlines()[0]
        raise UserError(
            f"can't read a torch tensor ({reason}): give the state dict of a network with weights"
        ) from error


def is_head(key: str, head: str) -> bool:
    """Tell whether a key belongs to the classifier, whose attribute name is `head`."""
    return key.startswith(f"{head}.")


def _variables(model: Any) -> dict[tuple, nnx.Variable]:
    state = model if isinstance(model, nnx.State) else nnx.state(model, (nnx.Param, nnx.BatchStat))
    return dict(nnx.to_flat_state(state))


def _is_abstract(variable: nnx.Variable) -> bool:
    return isinstance(variable.get_value(), jax.ShapeDtypeStruct)


def _counters(model: Any) -> dict[str, nnx.Module]:
    """Return the modules that have PyTorch's count, by its key."""
    modules = nnx.iter_modules(model) if isinstance(model, nnx.Module) else ()
    return {key_of((*path, COUNTER)): module for path, module in modules if hasattr(module, COUNTER)}


def _flat(model: nnx.Module | nnx.State | Mapping) -> dict[tuple, ArrayLike]:
    if isinstance(model, Mapping) and not isinstance(model, nnx.State):
        leaves = jax.tree.leaves_with_path(model)
        return {tuple(entry.key for entry in path): value for path, value in leaves}
    return {path: variable[...] for path, variable in _variables(model).items()}


def key_of(path: tuple) -> str:
    """Return torchvision's key of a variable, from the attribute names and indices on the way to it."""
    *modules, name = path
    modules[:1] = [RENAMED_PARTS.get(part, part) for part in modules[:1]]
    return ".".join(str(part) for part in (*modules, RENAMED.get(name, name)))


def _check(got: Mapping[str, tuple], expected: Mapping[str, tuple]) -> None:
    faults = {
        "missing": sorted(expected.keys() - got.keys()),
        "unexpected": sorted(got.keys() - expected.keys()),
        "of a different shape": [
            f"{key}: got {got[key]}, expected {expected[key]}"
            for key in sorted(expected.keys() & got.keys())
            if got[key] != expected[key]
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {fault} ({_first(keys)})" for fault, keys in faults.items() if keys)
        raise Misfit(f"the weights ({len(got)} tensors) do not fit the model ({len(expected)}): {found}")


def _first(items: Sequence[str], count: int = 3) -> str:
    return ", ".join(items[:count]) + (", ..." if len(items) > count else "")
