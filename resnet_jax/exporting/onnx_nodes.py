"""The nodes and initializers of an ONNX graph that is being written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.exporting.onnx_values import (
    ONE,
    ZERO,
    Constant,
    Product,
    Tensor,
    Value,
    common_order,
    depends_on_batch,
    in_float32,
)


class Node(NamedTuple):
    """An operation of ONNX with its inputs and its only output."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Nodes:
    """The nodes written so far, in the order of computation, and their initializers.

    Args:
        weights: the network's tensors with torchvision's keys and in its layouts. An initializer that has the values of
            one of them, unchanged, gets its key as a name.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self.by_output: dict[str, Node] = {}
        self.initializers: dict[str, np.ndarray] = {}
        self._weights = weights
        self._written: dict[tuple, str] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write a node; return the name of its output."""
        name = f"{kind}_{len(self.by_output)}"
        self.by_output[name] = Node(kind, inputs, name, attributes)
        return name

    def initializer(self, value: Any, key: str = "") -> str:
        """Write an array, unless the same one is there already; return its name."""
        array = np.ascontiguousarray(in_float32(value)).reshape(np.shape(value))  # NumPy makes vectors of numbers
        identity = (key, array.dtype.str, array.shape, blake2b(array.data).digest())
        if identity not in self._written:
            weight = self._weights.get(key, np.empty(0))
            unchanged = weight.size == array.size and np.array_equal(weight.ravel(), array.ravel())
            name = key if unchanged else f"{key}_changed" if key else "constant"
            while name in self.initializers:
                name = f"{name}_{len(self.initializers)}"
            self._written[identity] = name
            self.initializers[name] = array
        return self._written[identity]

    def integers(self, values: Sequence[int]) -> str:
        """Write a vector of integers, such as axes; return its name."""
        return self.initializer(np.array(values, np.int64))

    def number(self, value: Constant) -> str:
        """Write the only element of a constant; return its name."""
        return self.initializer(value.value.reshape(()), value.key)

    def tensor(self, x: Value, axes: tuple[int, ...] = ()) -> Tensor:
        """Write constants, and the scale and offset of a tensor; return it without them.

        Args:
            x: the value.
            axes: order of the axes that is best for what follows, of no effect if nothing is written.
        """
        if isinstance(x, Constant):
            axes = tuple(x.order())
            return Tensor(self.arranged(x, axes), axes, tuple(x.extent(axis) for axis in axes))
        x = self._product(x, x.source) if isinstance(x.source, Product) else x
        unscaled = replace(x, scale=ONE, offset=ZERO)
        for kind, other, neutral in (("Mul", x.scale, 1), ("Add", x.offset, 0)):
            if _differs(other, neutral):
                unscaled = self.elementwise(kind, unscaled, other, axes=axes or tuple(x.order()))
        return unscaled

    def _product(self, x: Tensor, product: Product) -> Tensor:
        """Write a convolution or matrix product, with scale and offset if they differ only between the outputs."""
        weight, inputs = product.weight, [product.images]
        inside = set(common_order([x.scale, x.offset])) <= {x.axes[1]}
        if inside and _differs(x.scale, 1):
            factor = x.scale.value.reshape(-1, *[1] * (weight.value.ndim - 1))
            weight = Constant(weight.value * factor, weight.key)
        inputs.append(self.initializer(weight.value, weight.key))
        if inside and _differs(x.offset, 0):
            bias = np.broadcast_to(x.offset.value.reshape(-1), len(weight.value))
            inputs.append(self.initializer(bias, x.offset.key))
        name = self.add(product.kind, *inputs, **product.attributes)
        return replace(x, source=name, scale=ONE, offset=ZERO) if inside else replace(x, source=name)

    def elementwise(self, kind: str, *values: Value, axes: tuple[int, ...] = (), **attributes: Any) -> Tensor:
        """Write an operation on elements, whose inputs repeat along axes of length 1; `axes` is their order in ONNX."""
        axes = axes or common_order(values)
        ready = [value if isinstance(value, Constant) else self.tensor(value, axes) for value in values]
        inputs = [
            self.number(value) if isinstance(value, Constant) and value.value.size == 1 else self.arranged(value, axes)
            for value in ready
        ]
        shape = tuple(max(value.extent(axis) for value in ready) for axis in axes)
        return Tensor(self.add(kind, *inputs, **attributes), axes, shape)

    def arranged(self, x: Value, axes: Sequence[int]) -> str:
        """Write a value in another order of its axes; return its name.

        Args:
            x: the value; of a tensor, without scale and offset.
            axes: all axes of more than one element, and others, which get length 1.
        """
        if isinstance(x, Constant):
            order = sorted(range(x.value.ndim), key=lambda axis: [*axes, axis].index(axis))
            return self.initializer(x.value.transpose(order).reshape([x.extent(axis) for axis in axes]), x.key)
        name, present = x.name, list(x.axes)
        if dropped := [axis for axis in present if axis not in axes]:
            name = self.add("Squeeze", name, self.integers([present.index(axis) for axis in dropped]))
            present = [axis for axis in present if axis in axes]
        order = [axis for axis in axes if axis in present]
        if order != present:
            name = self.add("Transpose", name, perm=[present.index(axis) for axis in order])
        if missing := [position for position, axis in enumerate(axes) if axis not in present]:
            name = self.add("Unsqueeze", name, self.integers(missing))
        return name

    def repeated(self, x: Value, shape: Sequence[int], axes: Sequence[int] | None = None) -> Tensor:
        """Write a value with its elements repeated along `axes` (all by default) to its `shape` in JAX.

        Raises:
            UserError: it would have to be repeated for each image.
        """
        x = self.tensor(x)
        axes = range(len(shape)) if axes is None else axes
        short = [axis for axis in axes if x.extent(axis) != shape[axis]]
        if not short:
            return x
        if any(depends_on_batch(shape[axis]) for axis in short):
            raise unsupported("repeats a value for each image")
        order = (*x.axes, *(axis for axis in short if axis not in x.axes))
        # Expand leaves an axis alone where the length that it is given is 1.
        lengths = self.integers([shape[axis] if axis in short else 1 for axis in order])
        expanded = tuple(shape[axis] if axis in short else x.extent(axis) for axis in order)
        return Tensor(self.add("Expand", self.arranged(x, order), lengths), order, expanded)


def _differs(constant: Constant, neutral: int) -> bool:
    """Tell whether a scale or an offset has an effect in float32."""
    return bool((in_float32(constant.value) != neutral).any())


def unsupported(what: str) -> UserError:
    """Return the error for a network that does what this package can't write to ONNX."""
    return UserError(f"the network {what}, which can't be written to ONNX here: export it with --format stablehlo")
