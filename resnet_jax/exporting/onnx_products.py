"""Convolutions, matrix products, poolings and reductions."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from resnet_jax.exporting.onnx_elementwise import Equation, Operation
from resnet_jax.exporting.onnx_nodes import Nodes, unsupported
from resnet_jax.exporting.onnx_values import (
    Constant,
    Product,
    Tensor,
    Value,
    depends_on_batch,
)


def _convolution(nodes: Nodes, equation: Equation, images: Value, kernel: Value) -> Value:
    parameters = equation.parameters
    numbers, padding = parameters["dimension_numbers"], np.array(parameters["padding"])
    special = parameters["batch_group_count"] > 1 or max(parameters["lhs_dilation"]) > 1 or padding.min() < 0
    if special or not isinstance(kernel, Constant):
        raise unsupported("has a convolution that is transposed, crops its images or computes its kernel from them")
    attributes = {
        "dilations": list(parameters["rhs_dilation"]),
        "group": parameters["feature_group_count"],
        "kernel_shape": [kernel.value.shape[axis] for axis in numbers.rhs_spec[2:]],
        "pads": padding.T.ravel().tolist(),
        "strides": list(parameters["window_strides"]),
    }
    name = nodes.arranged(nodes.repeated(images, equation.shapes[0]), numbers.lhs_spec)
    product = Product("Conv", name, Constant(kernel.value.transpose(numbers.rhs_spec), kernel.key), attributes)
    return Tensor(product, numbers.out_spec, tuple(equation.output[axis] for axis in numbers.out_spec))


def _dot(nodes: Nodes, equation: Equation, left: Value, right: Value) -> Value:
    """Write a product with a matrix of weights; of maps in ONNX's order, as a 1x1 convolution."""
    contracted, (batched, _) = equation.parameters["dimension_numbers"]
    x, matrix, side = (right, left, 1) if isinstance(left, Constant) else (left, right, 0)
    if not isinstance(matrix, Constant) or matrix.value.ndim != 2 or batched or len(contracted[0]) != 1:
        raise unsupported("has a product that is not one with a matrix of weights")
    (axis,), (inputs,), shape = contracted[side], contracted[1 - side], equation.shapes[side]
    x, weight = nodes.repeated(x, shape), Constant(matrix.value if inputs == 1 else matrix.value.T, matrix.key)
    kept = [other for other in range(len(shape)) if other != axis]
    outputs = 0 if side else len(kept)  # JAX's axis of the outputs
    new_axes = {other: index + side for index, other in enumerate(kept)} | {axis: outputs}
    axes = _with_all(x.axes, len(shape))
    source: str | Product
    if len(shape) == 4 and axes[1] == axis:
        wide = Constant(weight.value[:, :, None, None], weight.key)
        source = Product("Conv", nodes.arranged(x, axes), wide, {"kernel_shape": [1, 1]})
    elif len(shape) == 2:
        axes = (*kept, axis)
        source = Product("Gemm", nodes.arranged(x, axes), weight, {"transB": 1})
    else:
        axes = (*(other for other in axes if other != axis), axis)
        source = nodes.add("MatMul", nodes.arranged(x, axes), nodes.initializer(weight.value.T, weight.key))
    axes = tuple(new_axes[other] for other in axes)
    return Tensor(source, axes, tuple(equation.output[other] for other in axes))


def _with_all(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return the axes, followed by those of length 1 that are missing."""
    return (*axes, *(axis for axis in range(rank) if axis not in axes))


def _window(nodes: Nodes, equation: Equation, x: Value, kind: str, **attributes: int) -> Tensor:
    parameters, shape = equation.parameters, equation.shapes[0]
    window, strides, padding = (parameters[name] for name in ("window_dimensions", "window_strides", "padding"))
    moving = [axis for axis in range(len(shape)) if window[axis] > 1 or strides[axis] > 1 or any(padding[axis])]
    if max(*parameters["base_dilation"], *parameters["window_dilation"]) > 1 or len(shape) - len(moving) < 2:
        raise unsupported("has a pooling with dilation, or over the channels")
    x = nodes.repeated(x, shape, moving)
    axes = _with_all(x.axes, len(shape))
    if not set(moving).isdisjoint(axes[:2]):
        axes = _with_all([axis for axis in axes if axis not in moving][:2], len(shape))
    name = nodes.add(
        kind,
        nodes.arranged(x, axes),
        kernel_shape=[window[axis] for axis in axes[2:]],
        pads=[padding[axis][side] for side in (0, 1) for axis in axes[2:]],
        strides=[strides[axis] for axis in axes[2:]],
        **attributes,
    )
    lengths = (equation.output[axis] if axis in moving else x.extent(axis) for axis in axes)
    return Tensor(name, axes, tuple(lengths))


def _max_pool(nodes: Nodes, equation: Equation, x: Value) -> Value:
    return _window(nodes, equation, x, "MaxPool")


def _sum_pool(nodes: Nodes, equation: Equation, x: Value) -> Value:
    average = _window(nodes, equation, x, "AveragePool", count_include_pad=1)
    return average.scaled(Constant(np.array(math.prod(equation.parameters["window_dimensions"]), np.float32)))


def _reduced(nodes: Nodes, equation: Equation, x: Value, kind: str) -> Tensor:
    reduced, shape = equation.parameters["axes"], equation.shapes[0]
    if any(depends_on_batch(shape[axis]) for axis in reduced):
        raise unsupported("combines the images of a batch")
    x = nodes.repeated(x, shape, reduced)
    if positions := [position for position, axis in enumerate(x.axes) if axis in reduced]:
        x = replace(
            x,
            source=nodes.add(kind, x.name, nodes.integers(positions), keepdims=0),
            axes=tuple(axis for axis in x.axes if axis not in reduced),
            shape=tuple(length for axis, length in zip(x.axes, x.shape, strict=True) if axis not in reduced),
        )
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    return x.relabeled({axis: new for new, axis in enumerate(kept)}, len(kept))


def _sum(nodes: Nodes, equation: Equation, x: Value) -> Value:
    count = math.prod(equation.shapes[0][axis] for axis in equation.parameters["axes"])
    return _reduced(nodes, equation, x, "ReduceMean").scaled(Constant(np.array(count, np.float32)))


def _reduction(kind: str) -> Operation:
    return lambda nodes, equation, x: _reduced(nodes, equation, x, kind)


PRODUCTS: dict[str, Operation] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_sum": _sum,
    "reduce_window_max": _max_pool,
    "reduce_window_sum": _sum_pool,
}
"""From names of JAX's operations."""
