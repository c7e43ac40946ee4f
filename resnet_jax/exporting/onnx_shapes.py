"""Operations that move elements. Most give axes other names and write nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

from resnet_jax.exporting.onnx_elementwise import Equation, Operation
from resnet_jax.exporting.onnx_nodes import Nodes, unsupported
from resnet_jax.exporting.onnx_values import Constant, Tensor, Value, common_order, depends_on_batch


def _transpose(nodes: Nodes, equation: Equation, x: Value) -> Value:
    permutation = equation.parameters["permutation"]
    return x.relabeled({old: new for new, old in enumerate(permutation)}, len(permutation))


def _broadcast(nodes: Nodes, equation: Equation, x: Value, *lengths: Value) -> Value:
    new_axes = dict(enumerate(map(int, equation.parameters["broadcast_dimensions"])))
    return x.relabeled(new_axes, len(equation.parameters["shape"]))


def _reshape(nodes: Nodes, equation: Equation, x: Value) -> Value:
    """Write axes that are split or merged, which must be next to each other; axes of length 1 come and go freely."""
    old, new = equation.shapes[0], equation.output
    groups = _groups(old, new)
    x = nodes.tensor(x)
    if all(len(before) == len(after) == 1 for before, after in groups):
        new_axes = {before[0]: after[0] for before, after in groups}
        kept = tuple(axis for axis in x.axes if axis in new_axes)
        x = Tensor(nodes.arranged(x, kept), kept, tuple(x.extent(axis) for axis in kept))
        return x.relabeled(new_axes, len(new))
    x = nodes.repeated(x, old)
    groups.sort(key=lambda group: min(x.axes.index(axis) for axis in group[0]))
    axes = tuple(axis for _, after in groups for axis in after)
    lengths = [-1 if depends_on_batch(new[axis]) else new[axis] for axis in axes]
    name = nodes.arranged(x, [axis for before, _ in groups for axis in before])
    return Tensor(nodes.add("Reshape", name, nodes.integers(lengths)), axes, tuple(new[axis] for axis in axes))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return the smallest groups of axes before and after a reshape that have the same elements, without length 1."""
    before, after = ([axis for axis, length in enumerate(shape) if length != 1] for shape in (old, new))
    groups = []
    while before:
        group = [before.pop(0)], [after.pop(0)]
        while excess := math.prod(old[axis] for axis in group[0]) - math.prod(new[axis] for axis in group[1]):
            group[excess > 0].append((before, after)[excess > 0].pop(0))
        groups.append(group)
    return groups


def _concatenate(nodes: Nodes, equation: Equation, *parts: Value) -> Value:
    whole = [nodes.repeated(part, shape) for part, shape in zip(parts, equation.shapes, strict=True)]
    return _joined(nodes, whole, equation.parameters["dimension"])


def _stack(nodes: Nodes, equation: Equation, *parts: Value) -> Value:
    axis, shape = equation.parameters["axis"], equation.shapes[0]
    new_axes = {old: old + (old >= axis) for old in range(len(shape))}
    whole = [nodes.repeated(part, shape).relabeled(new_axes, len(shape) + 1) for part in parts]
    return _joined(nodes, whole, axis)


def _joined(nodes: Nodes, parts: Sequence[Value], axis: int) -> Tensor:
    axes = list(common_order(parts))
    if axis not in axes:  # next to its neighbor in JAX, with which it is often merged later
        axes.insert(axes.index(axis - 1) + 1 if axis - 1 in axes else 0, axis)
    name = nodes.add("Concat", *(nodes.arranged(part, axes) for part in parts), axis=axes.index(axis))
    shape = {other: parts[0].extent(other) for other in axes} | {axis: sum(part.extent(axis) for part in parts)}
    return Tensor(name, tuple(axes), tuple(shape.values()))


def _slice(nodes: Nodes, equation: Equation, x: Value) -> Value:
    starts, limits = equation.parameters["start_indices"], equation.parameters["limit_indices"]
    return _part(nodes, x, equation, starts, limits, equation.parameters["strides"] or [1] * len(starts))


def _split(nodes: Nodes, equation: Equation, x: Value) -> list[Value]:
    axis, shape, parts, start = equation.parameters["axis"], equation.shapes[0], [], 0
    for size in equation.parameters["sizes"]:
        starts, limits = [0] * len(shape), list(shape)
        starts[axis], limits[axis] = start, start + int(size)
        parts.append(_part(nodes, x, equation, starts, limits, [1] * len(shape)))
        start += int(size)
    return parts


def _part(
    nodes: Nodes, x: Value, equation: Equation, starts: Sequence[int], limits: Sequence[int], strides: Sequence[int]
) -> Value:
    shape = equation.shapes[0]
    cut = [axis for axis, whole in enumerate(shape) if (starts[axis], limits[axis], strides[axis]) != (0, whole, 1)]
    if any(depends_on_batch(shape[axis]) for axis in cut):
        raise unsupported("takes some of the images of a batch")
    x = nodes.repeated(x, shape, cut)
    columns = [[each[axis] for axis in cut] for each in (starts, limits)]
    columns += [[x.axes.index(axis) for axis in cut], [strides[axis] for axis in cut]]
    name = nodes.add("Slice", x.name, *map(nodes.integers, columns)) if cut else x.name
    lengths = {axis: len(range(starts[axis], limits[axis], strides[axis])) for axis in cut}
    return replace(x, source=name, shape=tuple(lengths.get(axis, x.extent(axis)) for axis in x.axes))


def _gather(nodes: Nodes, equation: Equation, x: Value, indices: Value) -> Value:
    """Write the rows that `jax.numpy.take` takes along an axis, if it is known which."""
    numbers, shape = equation.parameters["dimension_numbers"], equation.shapes[0]
    axis, *more = numbers.start_index_map
    whole = (*shape[:axis], 1, *shape[axis + 1 :])
    others = tuple(other for other in range(len(shape)) if other != axis)
    taken = not more and (numbers.collapsed_slice_dims, numbers.offset_dims) == ((axis,), others)
    if not taken or equation.parameters["slice_sizes"] != whole or not isinstance(indices, Constant):
        raise unsupported("takes pixels or channels by an index in other ways than jax.numpy.take along an axis")
    rows = indices.value.ravel()
    if depends_on_batch(shape[axis]) or not ((rows >= 0) & (rows < shape[axis])).all():
        raise unsupported("takes some of the images of a batch, or pixels that do not exist")
    x = nodes.repeated(x, shape, [axis])
    axes = tuple(dict.fromkeys([*x.axes, axis]))
    name = nodes.add("Gather", nodes.arranged(x, axes), nodes.integers(rows.tolist()), axis=axes.index(axis))
    return Tensor(name, axes, tuple(len(rows) if other == axis else x.extent(other) for other in axes))


def _pad(nodes: Nodes, equation: Equation, x: Value, filling: Value) -> Value:
    shape, padding = equation.shapes[0], [tuple(map(int, widths)) for widths in equation.parameters["padding_config"]]
    if not isinstance(filling, Constant) or any(between for _, _, between in padding):
        raise unsupported("pads between pixels, or with values computed from the images")
    padded = [axis for axis, widths in enumerate(padding) if any(widths)]
    x = nodes.repeated(x, shape, padded)
    axes = tuple(dict.fromkeys([*x.axes, *padded]))
    widths = nodes.integers([padding[axis][side] for side in (0, 1) for axis in axes])
    name = nodes.add("Pad", nodes.arranged(x, axes), widths, nodes.number(filling))
    return Tensor(name, axes, tuple(x.extent(axis) + sum(padding[axis]) for axis in axes))


SHAPES: dict[str, Operation] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "gather": _gather,
    "pad": _pad,
    "reshape": _reshape,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "transpose": _transpose,
}
"""From names of JAX's operations."""
