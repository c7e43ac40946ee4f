"""Values of a network on their way to ONNX, whose axes may be in another order there than in JAX.

JAX's maps are NHWC and ONNX's are NCHW. A value therefore knows the JAX axis of each of its ONNX axes, and a transposed
value is the same tensor with other axes. An axis along which a value only repeats has length 1 or is missing: the
operations of both repeat it as needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

BATCH = 1_000_003
"""Number of images while tracing: a prime, so that the lengths that depend on it are exactly its multiples."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that does not depend on the images.

    Attributes:
        value: its elements, with JAX's axes; no axes at all for a number.
        key: torchvision's key of the weight that it is, or that it was computed from; "" for others.
    """

    value: np.ndarray
    key: str = ""

    def extent(self, axis: int) -> int:
        """Return the length of one of JAX's axes, 1 where the value only repeats."""
        return self.value.shape[axis] if self.value.ndim else 1

    def order(self) -> list[int]:
        """Return JAX's axes of more than one element."""
        return [axis for axis, length in enumerate(self.value.shape) if length > 1]

    def relabeled(self, new_axes: Mapping[int, int], rank: int) -> "Constant":
        """Return the value with other axes.

        Args:
            new_axes: the new axis for each axis of JAX; one of length 1 may be missing, and disappears.
            rank: number of axes after that; those that are new have length 1.
        """
        if self.value.ndim == 0:
            return self
        kept = sorted(new_axes, key=lambda axis: new_axes[axis])
        dropped = [axis for axis in range(self.value.ndim) if axis not in new_axes]
        lengths = {new_axes[axis]: self.value.shape[axis] for axis in kept}
        shape = [lengths.get(axis, 1) for axis in range(rank)]
        return Constant(self.value.transpose(kept + dropped).reshape(shape), self.key)


@dataclass(frozen=True, eq=False)
class Product:
    """A convolution or matrix product that is not written yet, so that a factor and an offset can become part of it.

    Attributes:
        kind: of operation.
        images: name of its input.
        weight: in ONNX's order of axes, which is torchvision's, outputs first.
        attributes: of the operation.
    """

    kind: str
    images: str
    weight: Constant
    attributes: dict[str, Any]


ONE, ZERO = Constant(np.ones(())), Constant(np.zeros(()))


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value that depends on the images: `scale * source + offset`.

    Scale and offset wait, because what follows may change them or take them up: a mean is a sum times a factor, and the
    normalization after a convolution is a factor of its kernel and a bias.

    Attributes:
        source: name of a tensor; or the operation that it comes from, whose axis 1 is then that of its outputs.
        axes: JAX's axis for each axis of `source`.
        shape: length of each axis of `source`.
        scale, offset: with all of JAX's axes, or numbers.
    """

    source: str | Product
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    scale: Constant = ONE
    offset: Constant = ZERO

    @property
    def name(self) -> str:
        """The name of a tensor that is written."""
        assert isinstance(self.source, str)
        return self.source

    def extent(self, axis: int) -> int:
        """Return the length of one of JAX's axes in `source`, 1 where it only repeats."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def order(self) -> list[int]:
        """Return JAX's axes of `source`, in its order, and then those of scale and offset."""
        return list(dict.fromkeys([*self.axes, *self.scale.order(), *self.offset.order()]))

    def relabeled(self, new_axes: Mapping[int, int], rank: int) -> "Tensor":
        """Return the value with other axes, as `Constant.relabeled`; all axes of `source` stay."""
        scale, offset = (each.relabeled(new_axes, rank) for each in (self.scale, self.offset))
        return replace(self, axes=tuple(new_axes[axis] for axis in self.axes), scale=scale, offset=offset)

    def scaled(self, scale: Constant = ONE, offset: Constant = ZERO) -> "Tensor":
        """Return `scale * value + offset`, without an operation for it yet."""
        factor = computed(self.scale.value * scale.value, scale, self.scale)
        summand = computed(self.offset.value * scale.value + offset.value, offset, self.offset, scale)
        return replace(self, scale=factor, offset=summand)


Value = Constant | Tensor


def computed(value: Any, *origins: Constant) -> Constant:
    """Return a constant that was computed from others, and has the first key of theirs."""
    return Constant(np.asarray(value), next((origin.key for origin in origins if origin.key), ""))


def common_order(values: Sequence[Value]) -> tuple[int, ...]:
    """Return an order for the axes of all values: that of the tensor with the most axes, then others."""
    fullest = sorted(values, key=lambda it: len(it.axes) if isinstance(it, Tensor) else 0, reverse=True)
    return tuple(dict.fromkeys(axis for value in fullest for axis in value.order()))


def depends_on_batch(length: int) -> bool:
    return length % BATCH == 0


def is_floating(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.floating)


def in_float32(value: Any) -> np.ndarray:
    """Return an array on the host; floating-point types become float32, in which the graph computes."""
    array = np.asarray(value)
    return array.astype(np.float32, copy=False) if is_floating(array) else array
