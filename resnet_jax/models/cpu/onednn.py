"""Convolutions by oneDNN, the library inside jaxlib, together with the operations that follow them."""

import json
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.typing import DTypeLike
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

Activation = Literal["none", "relu", "relu6", "silu"]
POST_OPERATIONS = {"none": [], "relu": ["RELU"], "relu6": ["RELU6"], "silu": ["SWISH"]}
ACTIVATIONS = {"none": lambda maps: maps, "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu}
convolution_p = Primitive("onednn_convolution")


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    addend: jax.Array | None = None,
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    groups: int,
    activation: Activation = "none",
    dtype: DTypeLike,
) -> jax.Array:
    """Compute `activation(convolution(images, kernel) + bias + addend)` in one pass over the outputs.

    The products of bfloat16 are added up in float32, on the processor's matrix units if it has them, and what follows
    is computed in float32 too. It has no derivative.

    Args:
        images: `[batch, height, width, in_channels]`, float32 or bfloat16.
        kernel: `[height, width, in_channels / groups, out_channels]`, of the same type.
        bias: `[out_channels]`, float32.
        addend: of the shape of the outputs, float32 or bfloat16; none by default.
        strides: along height and width.
        padding: zeros before and after, along height and width.
        groups: of channels.
        activation: applied last.
        dtype: of the outputs, float32 or bfloat16.
    """
    operands = (images, kernel, bias) if addend is None else (images, kernel, bias, addend)
    return convolution_p.bind(
        *operands,
        strides=tuple(strides),
        padding=tuple(map(tuple, padding)),
        groups=groups,
        activation=activation,
        dtype=jnp.dtype(dtype),
    )


def _by_xla(images, kernel, bias, *addends, strides, padding, groups, activation, dtype) -> jax.Array:
    """Compute the same by XLA, for programs that are exported."""
    maps = lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=jnp.float32,
    )
    return ACTIVATIONS[activation](sum(addends, maps + bias)).astype(dtype)


@convolution_p.def_abstract_eval
def _shape(images, kernel, bias, *addends, strides, padding, groups, activation, dtype):
    sides = [
        (extent + before + after - size) // stride + 1
        for extent, size, stride, (before, after) in zip(
            images.shape[1:3], kernel.shape, strides, padding, strict=False
        )
    ]
    return jax.core.ShapedArray((images.shape[0], *sides, kernel.shape[3]), dtype)


def _lower(ctx, *operands, strides, padding, groups, activation, dtype):
    if ctx.module_context.lowering_parameters.for_export:
        by_xla = mlir.lower_fun(_by_xla, multiple_results=False)
        options = {"strides": strides, "padding": padding, "groups": groups, "activation": activation, "dtype": dtype}
        return by_xla(ctx, *operands, **options)
    maps = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    weights = {"dims": 4, "filter": {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}}
    config = {
        "dims": 4,
        "input": maps,
        "kernel": weights,
        "output": maps,
        "window": {
            "pad_left": [before for before, _ in padding],
            "pad_right": [after for _, after in padding],
            "strides": list(strides),
            "window_dilations": [1, 1],
        },
        "feature_groups": groups,
        "fusions": {"ops": ["BIAS", *["BINARY_ADD"] * (len(operands) - 3), *POST_OPERATIONS[activation]]},
    }
    (output,) = ctx.avals_out
    call = stablehlo.CustomCallOp(
        [mlir.aval_to_ir_type(ctx.module_context, output)],
        operands,
        call_target_name="__onednn$convolution",
        backend_config=ir.StringAttr.get(json.dumps({"onednn_conv_config": config})),
        api_version=ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 2),
    )
    return call.results


mlir.register_lowering(convolution_p, _lower, platform="cpu")
