"""Calls of oneDNN, the library inside jaxlib: convolutions with what follows them, and products summed over pixels."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import DTypeLike
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo
from jaxtyping import Array, Float

Activation = Literal["none", "relu", "relu6", "silu"]
ACTIVATIONS = {"none": lambda maps: maps, "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu}
NAMES = {"none": (), "relu": ("RELU",), "relu6": ("RELU6",), "silu": ("SWISH",)}
FUNCTIONS = {name: ACTIVATIONS[activation] for activation, names in NAMES.items() for name in names}

convolution_p = Primitive("onednn_convolution")
products_p = Primitive("onednn_products")


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    addend: jax.Array | None = None,
    *,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    groups: int,
    factor: float = 1.0,
    activation: Activation = "none",
    dtype: DTypeLike,
) -> jax.Array:
    """Compute `activation(factor * (convolution(images, kernel) + bias) + addend)` in one pass over the outputs.

    The products of bfloat16 are added up in float32 and those of integers in int32, on the processor's matrix units if
    it has them, and what follows is computed in float32. It has no derivative.

    Args:
        images: `[batch, height, width, in_channels]`, float32, bfloat16, int8 or uint8.
        kernel: `[height, width, in_channels / groups, out_channels]`, of the same type; int8 also for uint8.
        bias: `[out_channels]`, float32; none by default.
        addend: of the shape of the outputs, float32, bfloat16, int8 or uint8; none by default.
        strides: along height and width.
        padding: zeros before and after, along height and width.
        groups: of channels.
        factor: of the products and the bias.
        activation: applied last.
        dtype: of the outputs, one of those of `images`; integers are rounded and clipped.
    """
    extras = {"BIAS": bias, "LINEAR": None, "BINARY_ADD": addend}
    then = [name for name, values in extras.items() if values is not None or (name == "LINEAR" and factor != 1)]
    return convolution_p.bind(
        images,
        kernel,
        *(values for values in extras.values() if values is not None),
        strides=tuple(strides),
        padding=tuple(map(tuple, padding)),
        groups=groups,
        then=(*then, *NAMES[activation]),
        factor=factor,
        dtype=jnp.dtype(dtype),
        block=None,
    )


def products(
    left: Float[Array, "pixels left_channels"], right: Float[Array, "pixels right_channels"]
) -> Float[Array, "left_channels right_channels"]:
    """Compute the products of each pixel's channels, summed over the pixels, in float32: `left.T @ right`."""
    return products_p.bind(left, right)


def _convolve_by_xla(images, kernel, *extras, strides, padding, groups, then, factor, dtype, block) -> jax.Array:
    """Compute the same by XLA, for programs that are exported."""
    maps = lax.conv_general_dilated(
        *((images, kernel) if images.dtype == kernel.dtype else (images.astype(jnp.int32), kernel.astype(jnp.int32))),
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        preferred_element_type=jnp.float32,
    )
    addends = iter(extras)
    for name in then:
        if name == "LINEAR":
            maps = maps * factor
        else:
            maps = FUNCTIONS[name](maps) if name in FUNCTIONS else maps + next(addends)
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        maps = jnp.clip(jnp.rint(maps), limits.min, limits.max)
    return maps.astype(dtype)


def _multiply_by_xla(left, right) -> jax.Array:
    return lax.dot_general(left, right, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


@convolution_p.def_abstract_eval
def _shape_of_convolution(images, kernel, *_, strides, padding, groups, then, factor, dtype, block):
    sides = zip(images.shape[1:3], kernel.shape[:2], strides, padding, strict=True)
    extents = [(extent + sum(zeros) - size) // stride + 1 for extent, size, stride, zeros in sides]
    return jax.core.ShapedArray((images.shape[0], *extents, kernel.shape[3]), dtype)


@products_p.def_abstract_eval
def _shape_of_products(left, right):
    return jax.core.ShapedArray((left.shape[1], right.shape[1]), jnp.dtype(jnp.float32))


def _lower_convolution(ctx, *operands, **options):
    if ctx.module_context.lowering_parameters.for_export:
        return mlir.lower_fun(_convolve_by_xla, multiple_results=False)(ctx, *operands, **options)
    maps = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    kernel = {"dims": 4, "filter": {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}}
    window = {
        "pad_left": [before for before, _ in options["padding"]],
        "pad_right": [after for _, after in options["padding"]],
        "strides": list(options["strides"]),
        "window_dilations": [1, 1],
    }
    config = {"dims": 4, "input": maps, "kernel": kernel, "output": maps, "window": window}
    if options["block"] is not None:  # see hardware.packing
        kernel["filter"]["shape"] = list(ctx.avals_in[1].shape)
        config["optimization_config"] = {"weights_prepacked": True}
    config |= {
        "feature_groups": options["groups"],
        "fusions": {"ops": list(options["then"]), "alpha": options["factor"]},
    }
    return _call(ctx, operands, "__onednn$convolution", {"onednn_conv_config": config})


def _lower_products(ctx, *operands):
    if ctx.module_context.lowering_parameters.for_export:
        return mlir.lower_fun(_multiply_by_xla, multiple_results=False)(ctx, *operands)
    return _call(ctx, operands, "__onednn$matmul", {"onednn_matmul_config": {"transpose_a": True}})


def _call(ctx: Any, operands: Sequence[Any], target: str, config: dict[str, Any]) -> Any:
    """Write a call as XLA's CPU backend does; the configuration is its BackendConfig (xla/backends/cpu) as JSON."""
    return stablehlo.CustomCallOp(
        [mlir.aval_to_ir_type(ctx.module_context, output) for output in ctx.avals_out],
        operands,
        call_target_name=target,
        backend_config=ir.StringAttr.get(json.dumps(config)),
        api_version=ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 2),
    ).results


mlir.register_lowering(convolution_p, _lower_convolution, platform="cpu")
mlir.register_lowering(products_p, _lower_products, platform="cpu")
ad.defbilinear(
    products_p,
    lambda sums, left, right: right @ sums.T.astype(right.dtype),
    lambda sums, left, right: left @ sums.astype(left.dtype),
)
batching.primitive_batchers[products_p] = lambda operands, axes: (jax.vmap(_multiply_by_xla, axes)(*operands), 0)
