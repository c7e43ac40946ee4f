"""From a network's jaxpr, JAX's own list of its operations, to the nodes of an ONNX graph."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from resnet_jax.exporting.onnx_elementwise import ELEMENTWISE, Equation
from resnet_jax.exporting.onnx_nodes import Nodes, unsupported
from resnet_jax.exporting.onnx_products import PRODUCTS
from resnet_jax.exporting.onnx_shapes import SHAPES
from resnet_jax.exporting.onnx_values import (
    Constant,
    Tensor,
    Value,
    computed,
    depends_on_batch,
    in_float32,
    is_floating,
)

OPERATIONS = ELEMENTWISE | PRODUCTS | SHAPES
CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call", "custom_vjp_call"}
"""Operations that only call others."""
SAME = {"copy", "copy_p", "name", "optimization_barrier", "stop_gradient"}
"""Operations that return what they are given."""


def write(jaxpr: ClosedJaxpr, inputs: Sequence[Value], nodes: Nodes) -> list[Value]:
    """Write the operations of `jaxpr`, applied to `inputs`; return its outputs.

    What does not depend on the images is computed here and now, by JAX.

    Raises:
        UserError: an operation has no ONNX form here.
    """
    constants = [Constant(in_float32(value)) for value in jaxpr.consts]
    return _write(jaxpr.jaxpr, [*constants, *inputs], nodes)


def _write(jaxpr: Jaxpr, inputs: Sequence[Value], nodes: Nodes) -> list[Value]:
    values: dict[Var, Value] = {}
    atoms = [*jaxpr.outvars, *(atom for each in jaxpr.eqns for atom in each.invars)]
    uses = Counter(atom for atom in atoms if isinstance(atom, Var))

    def keep(variables: Sequence[Var], given: Sequence[Value]) -> None:
        for variable, value in zip(variables, given, strict=True):  # what waits is computed once, not by each user
            shared = isinstance(value, Tensor) and uses[variable] > 1
            values[variable] = nodes.tensor(value) if shared else value

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return Constant(in_float32(np.asarray(atom.val, atom.aval.dtype)))  # type: ignore[attr-defined]
        return values[atom]

    keep([*jaxpr.constvars, *jaxpr.invars], inputs)
    for equation in jaxpr.eqns:
        keep(equation.outvars, _apply(equation, [read(atom) for atom in equation.invars], nodes))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(equation: JaxprEqn, inputs: list[Value], nodes: Nodes) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    match name, inputs:
        case _ if name in CALLS:
            inner = parameters["call_jaxpr" if "call_jaxpr" in parameters else "jaxpr"]
            return write(inner, inputs, nodes) if isinstance(inner, ClosedJaxpr) else _write(inner, inputs, nodes)
        case "platform_index", [] if None in parameters["platforms"]:  # the branch for platforms without their own
            return [Constant(np.array(parameters["platforms"].index(None)))]
        case "cond", [Constant() as branch, *operands]:
            return write(parameters["branches"][int(branch.value)], operands, nodes)
        case _ if name in SAME:
            return inputs
    return _operation(equation, inputs, nodes)


def _operation(equation: JaxprEqn, inputs: list[Value], nodes: Nodes) -> list[Value]:
    name, avals = equation.primitive.name, [atom.aval for atom in (*equation.invars, *equation.outvars)]
    shapes: list[tuple[int, ...]] = [aval.shape for aval in avals]  # type: ignore[attr-defined]
    floating, count = [is_floating(aval) for aval in avals], len(inputs)
    constants = [each for each in inputs if isinstance(each, Constant)]
    if name == "convert_element_type" and all(floating):
        return inputs
    if len(constants) == count and not any(depends_on_batch(length) for shape in shapes for length in shape):
        return _evaluated(equation, constants, shapes)
    if name not in OPERATIONS:
        raise unsupported(f"uses JAX's operation {name}")
    described = Equation(equation.params, shapes[:count], shapes[count], floating[count])
    outputs = OPERATIONS[name](nodes, described, *inputs)
    return outputs if isinstance(outputs, list) else [outputs]


def _evaluated(equation: JaxprEqn, inputs: list[Constant], shapes: list[tuple[int, ...]]) -> list[Value]:
    """Compute an operation on constants."""
    arrays = [jnp.asarray(np.broadcast_to(each.value, shape)) for each, shape in zip(inputs, shapes, strict=False)]
    outputs = equation.primitive.bind(*arrays, **equation.params)
    return [computed(in_float32(it), *inputs) for it in (outputs if equation.primitive.multiple_results else [outputs])]
