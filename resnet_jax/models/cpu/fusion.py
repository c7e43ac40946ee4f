"""A function's convolutions computed together with the operations that follow them, for inference on a CPU."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jax.typing import DTypeLike
from jaxtyping import PyTree

from resnet_jax.models.cpu import int8, onednn
from resnet_jax.models.cpu.int8 import Integers, Maps, Recorder
from resnet_jax.models.cpu.pooling import max_pool
from resnet_jax.models.cpu.processor import has_bfloat16
from resnet_jax.models.cpu.winograd import winograd

CHANNELS_LAST = lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))

WINOGRAD_CHANNELS, WINOGRAD_PIXELS = 256, 384
"""From which on Winograd's method is faster than oneDNN in float32: 14.6 against 16.9 ms for 16 maps of 14x14x256."""


@dataclass(frozen=True)
class Pending:
    """A convolution that waits for what follows it: `activation(scale * convolution + bias + addend)`."""

    images: jax.Array | Maps
    kernel: jax.Array
    options: dict[str, Any]
    shape: tuple[int, ...]
    dtype: DTypeLike
    scale: Any = 1.0
    bias: Any = 0.0
    addend: jax.Array | Maps | None = None
    activation: onednn.Activation = "none"
    arithmetic: Recorder | Integers | None = None
    """Of integers, if the network is computed with them."""

    def compute(self) -> jax.Array | Maps:
        return self.floating() if self.arithmetic is None else self.arithmetic.convolve(self)

    def floating(self) -> jax.Array:
        """Compute with the network's own type."""
        images, addend = _plain(self.images), _plain(self.addend)
        if self._suits_winograd(images):
            maps = winograd(images, self.kernel * self.scale) + self.bias
            maps = maps if addend is None else maps + addend
            return onednn.ACTIVATIONS[self.activation](maps).astype(self.dtype)
        kernel = (self.kernel * self.scale).astype(images.dtype)
        bias = jnp.broadcast_to(jnp.asarray(self.bias, jnp.float32), kernel.shape[3:])
        options: dict[str, Any] = {**self.options, "activation": self.activation, "dtype": self.dtype}
        return onednn.convolve(images, kernel, bias, addend, **options)

    def _suits_winograd(self, images: jax.Array) -> bool:
        """Tell whether Winograd's method is faster; the kernel's transform depends on the weights alone."""
        height, width, inputs, outputs = self.kernel.shape
        plain = self.options == {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "groups": 1}
        few = images.dtype != jnp.float32 or math.prod(images.shape[:3]) < WINOGRAD_PIXELS
        return plain and not few and height == width == 3 and min(inputs, outputs) >= WINOGRAD_CHANNELS


@dataclass(frozen=True)
class Gate:
    """The sigmoid of a pending convolution; the convolution times it is its SiLU."""

    of: Pending

    def compute(self) -> jax.Array:
        return jax.nn.sigmoid(_plain(self.of.compute()))


def fused(function: Callable, arithmetic: Callable[[], Recorder | Integers] | None = None) -> Callable:
    """Return the same function of arrays, with each convolution computed together with what follows it.

    The function is traced, and its operations are evaluated one by one. A convolution waits: a scale and a bias of each
    channel, such as those of batch normalization, become part of its kernel and bias, and a sum with other maps, ReLU,
    ReLU6 or SiLU are left to oneDNN, which does them before it writes the outputs. Anything else, and a second use,
    ends the waiting. Maximum poolings take the form that is fastest on a CPU. The result has no derivative; derivatives
    inside the function are kept, if they are not through convolutions.

    Args:
        function: of arrays.
        arithmetic: makes that of integers, for each trace; none by default.
    """

    def run(*args: PyTree) -> PyTree:
        program, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        integers = None if arithmetic is None else arithmetic()
        results = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(args), integers)
        return jax.tree.unflatten(jax.tree.structure(shape), map(_plain, results))

    return run


def _computed(value: Any) -> Any:
    return value.compute() if isinstance(value, Pending | Gate) else value


def _plain(value: Any) -> Any:
    """Compute a value, and return it without steps."""
    computed = _computed(value)
    return computed.plain() if isinstance(computed, Maps) else computed


def _evaluate(
    program: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any], arithmetic: Recorder | Integers | None
) -> list[Any]:
    """Evaluate a program, whose arguments and results may be pending."""
    values: dict[Any, Any] = dict(zip(program.constvars, consts, strict=True))
    values |= zip(program.invars, args, strict=True)
    exact: dict[Any, Any] = {}  # kernels before they were rounded to the type of the computation
    atoms = [atom for eqn in program.eqns for atom in eqn.invars] + program.outvars
    uses = Counter(atom for atom in atoms if not isinstance(atom, core.Literal))

    def read(atom: Any, most: int) -> Any:
        if isinstance(atom, core.Literal):
            return atom.val
        if uses[atom] > most:
            values[atom] = _computed(values[atom])
        return values[atom]

    for eqn in program.eqns:
        most = 2 if eqn.primitive.name in ("logistic", "mul") else 1
        inputs = [read(atom, most) for atom in eqn.invars]
        if eqn.primitive.name == "convert_element_type":
            exact[eqn.outvars[0]] = inputs[0]
        if eqn.primitive.name == "conv_general_dilated":
            inputs[1] = exact.get(eqn.invars[1], inputs[1])
            if arithmetic is not None and _suits(eqn) and _takes_integers(eqn):
                inputs[0] = arithmetic.take(_computed(inputs[0]))
        values |= zip(eqn.outvars, _apply(eqn, inputs, arithmetic), strict=True)
    return [read(atom, 1) for atom in program.outvars]


def _takes_integers(eqn: core.JaxprEqn) -> bool:
    kernel: Any = eqn.invars[1].aval
    return int8.takes(kernel.shape, eqn.params["feature_group_count"])


def _apply(eqn: core.JaxprEqn, inputs: list[Any], arithmetic: Recorder | Integers | None) -> list[Any]:
    """Apply an operation to values, which may be pending."""
    params = eqn.params
    match eqn.primitive.name:
        case "jit" | "closed_call":
            return _evaluate(params["jaxpr"].jaxpr, params["jaxpr"].consts, inputs, arithmetic)
        case "custom_jvp_call":
            return _evaluate(params["call_jaxpr"].jaxpr, params["call_jaxpr"].consts, inputs, arithmetic)
        case "cond" if params["branches_platforms"]:  # of lax.platform_dependent; the last branch is the default
            return _evaluate(params["branches"][-1].jaxpr, params["branches"][-1].consts, inputs[1:], arithmetic)
        case "name" | "optimization_barrier":
            return inputs
        case "reduce_window_max" if _is_pooling(eqn):
            return [max_pool(_plain(inputs[0]), params)]
        case "conv_general_dilated" if _suits(eqn):
            return [_pending(eqn, _computed(inputs[0]), _plain(inputs[1]), arithmetic)]
    if any(isinstance(value, Pending | Gate) for value in inputs) and (joined := _join(eqn, inputs)) is not None:
        return [joined]
    results = eqn.primitive.bind(*map(_plain, inputs), **eqn.primitive.get_bind_params(params))
    return results if eqn.primitive.multiple_results else [results]


def _output(eqn: core.JaxprEqn) -> Any:
    """Return the shape and type of an operation's result."""
    return eqn.outvars[0].aval


def _suits(eqn: core.JaxprEqn) -> bool:
    """Tell whether oneDNN computes this convolution here."""
    params, output = eqn.params, _output(eqn)
    dilations = *params["lhs_dilation"], *params["rhs_dilation"], params["batch_group_count"]
    padding = [zeros for side in params["padding"] for zeros in side]
    return (
        params["dimension_numbers"] == CHANNELS_LAST
        and set(dilations) == {1}
        and min(padding) >= 0
        and output.size > 0
        and _multiplies(output.dtype)
    )


def _multiplies(dtype: Any) -> bool:
    """Tell whether oneDNN takes this type here; with another one it would end the process."""
    return dtype == jnp.float32 or (dtype == jnp.bfloat16 and has_bfloat16())


def _is_pooling(eqn: core.JaxprEqn) -> bool:
    """Tell whether a maximum over windows is one over height and width."""
    window, dilations = eqn.params["window_dimensions"], (*eqn.params["base_dilation"], *eqn.params["window_dilation"])
    floating = jnp.issubdtype(_output(eqn).dtype, jnp.floating)
    return len(window) == 4 and window[0] == window[3] == 1 and set(dilations) == {1} and floating


def _pending(
    eqn: core.JaxprEqn, images: jax.Array | Maps, kernel: jax.Array, arithmetic: Recorder | Integers | None
) -> Pending:
    names = {"strides": "window_strides", "padding": "padding", "groups": "feature_group_count"}
    options = {name: eqn.params[key] for name, key in names.items()}
    return Pending(images, kernel, options, _output(eqn).shape, _output(eqn).dtype, arithmetic=arithmetic)


def _join(eqn: core.JaxprEqn, inputs: list[Any]) -> Pending | Gate | None:
    """Return a pending convolution with the next operation in it, or None if oneDNN can't do it."""
    name = eqn.primitive.name
    first, *others = inputs if isinstance(inputs[0], Pending) else inputs[::-1]
    if not isinstance(first, Pending):
        return None
    if name == "convert_element_type":
        return replace(first, dtype=_output(eqn).dtype) if _multiplies(_output(eqn).dtype) else None
    plain = first.activation == "none"
    if name == "logistic":
        return Gate(first) if plain else None
    if len(others) != 1:
        return None
    (other,) = others
    match name:
        case "mul" if isinstance(other, Gate) and other.of is first:
            return replace(first, activation="silu")
        case "max" if plain and _is(other, 0):
            return replace(first, activation="relu")
        case "min" if first.activation == "relu" and _is(other, 6):
            return replace(first, activation="relu6")
    if not plain or first.addend is not None:
        return None
    match name, _of_channels(other, first.shape[3]):
        case "mul", row if row is not None:
            return replace(first, scale=first.scale * row, bias=first.bias * row)
        case "add", row if row is not None:
            return replace(first, bias=first.bias + row)
        case "add", None if (addend := _computed(other)).shape == first.shape:
            return replace(first, addend=addend if first.arithmetic is None else first.arithmetic.known(addend))
    return None


def _is(value: Any, number: int) -> bool:
    return (
        not isinstance(value, jax.core.Tracer | Pending | Gate | Maps)
        and jnp.ndim(value) == 0
        and bool(value == number)
    )


def _of_channels(value: Any, channels: int) -> Any:
    """Return a number, or a vector with one for each channel; None if the value differs between pixels or images."""
    if isinstance(value, Pending | Gate | Maps):
        return None
    if jnp.ndim(value) == 0:
        return value
    return value.reshape(-1) if value.shape == (1, 1, 1, channels) else None
