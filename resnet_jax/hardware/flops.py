"""Multiply-adds and activations of a network, counted in its program."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


class Cost(NamedTuple):
    """Cost of the convolutions and matrix products, as papers count it."""

    multiply_adds: int
    """Number of products with their additions, including those with padding."""
    activations: int
    """Number of values in the outputs of these operations."""


def cost_of(function: Callable, *args: Any) -> Cost:
    """Count what `function(*args)` computes, without compiling it; `args` may be abstract.

    XLA's own count, `cost_analysis()`, omits the products with padding and adds the element-wise work: it is 13% below
    the published 0.555 GMAC of ResNet-18 at 32x32, and 7% below the 1.814 at 224x224.
    """
    return _total(jax.make_jaxpr(function)(*args).jaxpr)


def _total(jaxpr: Jaxpr) -> Cost:
    costs = [_cost(equation) for equation in jaxpr.eqns]
    return Cost(sum(cost.multiply_adds for cost in costs), sum(cost.activations for cost in costs))


def _cost(equation: Any) -> Cost:
    name, parameters = equation.primitive.name, equation.params
    outputs = equation.outvars[0].aval.size if equation.outvars else 0
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
        return Cost(outputs * math.prod(kernel) // out_features, outputs)
    if name == "dot_general":
        left, contracted = equation.invars[0].aval.shape, parameters["dimension_numbers"][0][0]
        return Cost(outputs * math.prod(left[axis] for axis in contracted), outputs)
    inner = [_total(each) for value in parameters.values() for each in _jaxprs(value)]
    if name == "cond":  # one branch runs; in `convolve` the last one is the plain convolution
        return inner[-1]
    total = Cost(sum(cost.multiply_adds for cost in inner), sum(cost.activations for cost in inner))
    rounds = parameters["length"] if name == "scan" else 1
    return Cost(rounds * total.multiply_adds, rounds * total.activations)


def _jaxprs(value: Any) -> list[Jaxpr]:
    if isinstance(value, tuple | list):
        return [jaxpr for each in value for jaxpr in _jaxprs(each)]
    return [value.jaxpr] if isinstance(value, ClosedJaxpr) else [value] if isinstance(value, Jaxpr) else []
