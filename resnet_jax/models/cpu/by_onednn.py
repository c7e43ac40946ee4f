"""A convolution by oneDNN with its derivatives, for the training step on a CPU."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from resnet_jax.models.cpu import onednn
from resnet_jax.models.cpu.convolution import by_phases, convolve_on_cpu
from resnet_jax.models.cpu.grouped import kernel_gradient
from resnet_jax.models.cpu.processor import has_bfloat16

training_by_onednn = jax.make_user_context(False)
"""Whether a program of one CPU device is traced, in which calls of oneDNN are allowed.

Convolutions in bfloat16, grouped and depthwise ones in float32, and a teacher become such calls. Others in float32
train as fast or faster in the forms of `convolve_on_cpu`. jaxlib can't write such a program to a file."""

Sides = Sequence[tuple[int, int]]
Sizes = tuple[int, ...]
Images = Float[Array, "batch height width in_channels"]
Kernel = Float[Array, "rows columns group_channels out_channels"]
Outputs = Float[Array, "batch out_height out_width out_channels"]

convolution_p = Primitive("convolution_by_onednn")


def is_chosen(images: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Tell whether a convolution is to be computed here."""
    static = all(isinstance(extent, int) and extent > 0 for extent in images.shape)
    grouped = images.dtype == jnp.float32 and groups > 1
    narrow = images.dtype == jnp.bfloat16 and has_bfloat16()
    return bool(training_by_onednn.value) and static and (grouped or narrow)


def convolve(images: Images, kernel: Kernel, stride: int, padding: Sides, groups: int = 1) -> Outputs:
    """Convolve with some zeros before and after each side; negative ones cut pixels off.

    The gradient by the images is a convolution with the mirrored kernel, for each phase of a stride. That by the kernel
    is a sum over the pixels of products of images and gradients, a matrix product for each tap or, of groups, for all.
    """
    if min(min(side) for side in padding) < 0:
        return _by_xla(images, kernel, stride, padding, groups)
    return convolution_p.bind(images, kernel, stride=stride, padding=tuple(map(tuple, padding)), groups=groups)


def _by_xla(images: Images, kernel: Kernel, stride: int, padding: Sides, groups: int) -> Outputs:
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _call(images: Images, kernel: Kernel, *, stride: int, padding: Sides, groups: int) -> Outputs:
    return onednn.convolve(images, kernel, strides=(stride, stride), padding=padding, groups=groups, dtype=images.dtype)


def _by_images(gradients: Outputs, images: Any, kernel: Kernel, *, stride: int, padding: Sides, groups: int) -> Images:
    """Return the gradient by the images, of which only the shape is known."""
    before, depthwise = padding[0][0], 1 < groups == images.aval.shape[3]
    if stride > 1:
        dense = partial(convolve, groups=groups)
        form = partial(convolve_on_cpu, groups=groups) if depthwise else partial(by_phases, dense=dense)
        return _pullback(lambda images: form(images, kernel, stride, before), images.aval, gradients)
    height, width, inputs, outputs = kernel.shape
    apart = kernel[::-1, ::-1].reshape(height, width, inputs, groups, outputs // groups)
    mirrored = apart.transpose(0, 1, 4, 3, 2).reshape(height, width, outputs // groups, groups * inputs)
    sides = [(size - 1 - low, size - 1 - high) for size, (low, high) in zip((height, width), padding, strict=True)]
    return convolve(gradients, mirrored, 1, sides, groups)


def _by_kernel(gradients: Outputs, images: Images, kernel: Any, *, stride: int, padding: Sides, groups: int) -> Kernel:
    """Return the gradient by the kernel, of which only the shape is known."""
    if stride == 1 and 1 < groups < images.shape[3]:
        return kernel_gradient(images, gradients, kernel.aval.shape[:2], padding, groups).astype(kernel.aval.dtype)
    if groups > 1:
        wide, exact = images.astype(jnp.float32), jax.ShapeDtypeStruct(kernel.aval.shape, jnp.float32)
        form = partial(convolve_on_cpu, wide, stride=stride, padding=padding[0][0], groups=groups)
        return _pullback(form, exact, gradients.astype(jnp.float32)).astype(kernel.aval.dtype)
    flat = gradients.reshape(-1, gradients.shape[3])
    taps = _taps(images, kernel.aval.shape[:2], gradients.shape[1:3], stride, padding)
    sums = [onednn.products(pixels.reshape(-1, pixels.shape[3]), flat) for pixels in taps]
    return jnp.stack(sums).reshape(kernel.aval.shape).astype(kernel.aval.dtype)


def _pullback(linear: Callable[[jax.Array], Outputs], operand: Any, gradients: Outputs) -> jax.Array:
    """Transpose a linear function by its own derivative, which `jax.linear_transpose` would not ask for."""
    return jax.vjp(linear, jnp.zeros(operand.shape, operand.dtype))[1](gradients)[0]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3, 4))
def _taps(images: Images, size: Sizes, outputs: Sizes, stride: int, padding: Sides) -> list[jax.Array]:
    """Return the pixels that each tap of a kernel is multiplied by.

    They are moved as integers. XLA would convert bfloat16 numbers to float32 to move them.
    """
    bits = _shifted(lax.bitcast_convert_type(images, jnp.uint16), size, outputs, stride, padding)
    return [lax.bitcast_convert_type(pixels, images.dtype) for pixels in bits]


@_taps.defjvp
def _taps_jvp(size, outputs, stride, padding, primals, tangents):
    return _taps(*primals, size, outputs, stride, padding), _shifted(*tangents, size, outputs, stride, padding)


def _shifted(images: jax.Array, size: Sizes, outputs: Sizes, stride: int, padding: Sides) -> list[jax.Array]:
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        [slice(tap, tap + stride * (extent - 1) + 1, stride) for tap in range(taps)]
        for taps, extent in zip(size, outputs, strict=True)
    )
    return [padded[:, row, column] for row, column in product(rows, columns)]


@convolution_p.def_abstract_eval
def _shape_of_convolution(images, kernel, *, stride, padding, groups):
    outputs = jax.eval_shape(lambda *operands: _by_xla(*operands, stride, padding, groups), images, kernel)
    return jax.core.ShapedArray(outputs.shape, outputs.dtype)


def _batched(operands, axes, **options):
    return jax.vmap(partial(_by_xla, **options), axes)(*operands), 0


mlir.register_lowering(convolution_p, mlir.lower_fun(_call, multiple_results=False), platform="cpu")
ad.defbilinear(convolution_p, _by_images, _by_kernel)
batching.primitive_batchers[convolution_p] = _batched
