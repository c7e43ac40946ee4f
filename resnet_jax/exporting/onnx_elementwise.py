"""Operations on elements. Arithmetic with constants waits, to become part of another operation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from resnet_jax.exporting.onnx_nodes import Node, Nodes, unsupported
from resnet_jax.exporting.onnx_values import ZERO, Constant, Tensor, Value, computed, in_float32


class Equation(NamedTuple):
    """An operation of JAX, without its inputs."""

    parameters: dict[str, Any]
    shapes: list[tuple[int, ...]]
    """Of its inputs."""
    output: tuple[int, ...]
    """Shape of its output, or the first of them."""
    is_floating: bool
    """Whether that is of a floating-point type."""


Operation = Callable[..., Value | list[Value]]
"""From the nodes, the equation and its inputs to its output, or a list of them."""

MINUS_ONE = Constant(np.array(-1.0))


def _same(kind: str) -> Operation:
    return lambda nodes, equation, *values: nodes.elementwise(kind, *values)


def _arithmetic(kind: str) -> Operation:
    def operation(nodes: Nodes, equation: Equation, x: Value, y: Value) -> Value:
        if equation.is_floating:
            match kind, x, y:
                case "Add", Tensor(), Constant():
                    return x.scaled(offset=y)
                case "Add", Constant(), Tensor():
                    return y.scaled(offset=x)
                case "Sub", Tensor(), Constant():
                    return x.scaled(offset=computed(-y.value, y))
                case "Sub", Constant(), Tensor():
                    return y.scaled(MINUS_ONE, x)
                case "Mul", Tensor(), Constant():
                    return x.scaled(y)
                case "Mul", Constant(), Tensor():
                    return y.scaled(x)
                case "Div", Tensor(), Constant():
                    return x.scaled(computed(1 / y.value.astype(np.float64), y))
        return nodes.elementwise(kind, x, y)

    return operation


def _neg(nodes: Nodes, equation: Equation, x: Value) -> Value:
    return x.scaled(MINUS_ONE) if equation.is_floating and isinstance(x, Tensor) else nodes.elementwise("Neg", x)


def _max(nodes: Nodes, equation: Equation, x: Value, y: Value) -> Value:
    x, y = (y, x) if isinstance(x, Constant) else (x, y)
    if isinstance(x, Constant) or not isinstance(y, Constant) or y.value.size > 1:
        return nodes.elementwise("Max", x, y)
    if y.value == 0:
        return nodes.elementwise("Relu", x)
    x = nodes.tensor(x)
    return replace(x, source=nodes.add("Clip", x.name, nodes.number(y)))


def _min(nodes: Nodes, equation: Equation, x: Value, y: Value) -> Value:
    x, y = (y, x) if isinstance(x, Constant) else (x, y)
    if isinstance(x, Constant) or not isinstance(y, Constant) or y.value.size > 1:
        return nodes.elementwise("Min", x, y)
    x = nodes.tensor(x)
    match nodes.by_output.get(x.name):
        case Node("Relu", (source,)):
            bounds = source, nodes.number(ZERO)
        case Node("Clip", (source, low)):
            bounds = source, low
        case _:
            bounds = x.name, ""
    return replace(x, source=nodes.add("Clip", *bounds, nodes.number(y)))


def _clamp(nodes: Nodes, equation: Equation, low: Value, x: Value, high: Value) -> Value:
    return _min(nodes, equation, _max(nodes, equation, x, low), high)


def _ne(nodes: Nodes, equation: Equation, x: Value, y: Value) -> Value:
    return nodes.elementwise("Not", nodes.elementwise("Equal", x, y))


def _rsqrt(nodes: Nodes, equation: Equation, x: Value) -> Value:
    return nodes.elementwise("Reciprocal", nodes.elementwise("Sqrt", x))


def _square(nodes: Nodes, equation: Equation, x: Value) -> Value:
    return nodes.elementwise("Mul", x, x)


def _integer_pow(nodes: Nodes, equation: Equation, x: Value) -> Value:
    exponent = Constant(np.array(equation.parameters["y"], np.float32))
    return _square(nodes, equation, x) if exponent.value == 2 else nodes.elementwise("Pow", x, exponent)


def _erfc(nodes: Nodes, equation: Equation, x: Value) -> Value:
    """Write 1 - erf(x) as 1 + erf(-x): in GELU, x has a minus already."""
    erf = nodes.elementwise("Erf", _neg(nodes, equation, x))
    return erf.scaled(offset=Constant(np.ones(())))


def _select(nodes: Nodes, equation: Equation, which: Value, *cases: Value) -> Value:
    if isinstance(which, Constant) and which.value.size == 1:
        return cases[int(which.value.item())]
    if len(cases) != 2:
        raise unsupported("selects among more than two values")
    return nodes.elementwise("Where", which, *reversed(cases))


def _convert(nodes: Nodes, equation: Equation, x: Value) -> Value:
    from onnx import helper  # an extra

    dtype = in_float32(np.empty(0, equation.parameters["new_dtype"])).dtype
    return nodes.elementwise("Cast", x, to=helper.np_dtype_to_tensor_dtype(dtype))


ELEMENTWISE: dict[str, Operation] = {
    **{name: _same(name.capitalize()) for name in ("abs", "ceil", "erf", "exp", "floor", "log", "pow", "sign", "sqrt")},
    **{name: _same(name.capitalize()) for name in ("tanh", "and", "or", "not")},
    **{name: _arithmetic(name.capitalize()) for name in ("add", "sub", "mul", "div")},
    "add_any": _arithmetic("Add"),  # of gradients
    "clamp": _clamp,
    "convert_element_type": _convert,
    "eq": _same("Equal"),
    "erfc": _erfc,
    "ge": _same("GreaterOrEqual"),
    "gt": _same("Greater"),
    "integer_pow": _integer_pow,
    "le": _same("LessOrEqual"),
    "logistic": _same("Sigmoid"),
    "lt": _same("Less"),
    "max": _max,
    "min": _min,
    "ne": _ne,
    "neg": _neg,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "square": _square,
}
"""From names of JAX's operations."""
