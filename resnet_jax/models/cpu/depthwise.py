"""The depthwise convolution in forms that are fast on XLA's CPU backend; docs/cpu.md has the measurements."""

from collections.abc import Iterator
from functools import partial, reduce
from itertools import product

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from resnet_jax.models.cpu.taps import on_pixels, output_extent, phases, taps

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "size size 1 channels"]
Outputs = Float[Array, "batch out_height out_width channels"]

NEIGHBORS = 4
"""Images whose products are added before the sum over the pixels; 8 are no faster."""
PARTS, LARGE = 4, 2**22
"""Parts of a batch whose products are made one after another, so that they stay in the caches; and the numbers in a
batch from which on it is divided."""


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def depthwise(images: Images, kernel: Kernel, stride: int, padding: int) -> Outputs:
    """Convolve each channel with its own kernel, as a sum over the taps of shifted images times a row of weights.

    Its derivatives are those of `_scattered`, which is the same function.
    """
    patches, weights = taps(images, kernel, stride, padding)
    return reduce(jnp.add, (patch * row for patch, row in zip(patches, weights[:, 0], strict=True)))


@depthwise.defjvp
def _depthwise_jvp(stride, padding, primals, tangents):
    (images, kernel), (images_dot, kernel_dot) = primals, tangents
    by_images = _scattered(images_dot, kernel, stride, padding)
    by_kernel = _in_parts(images, kernel_dot, stride, padding)
    return depthwise(images, kernel, stride, padding), by_images + by_kernel


def _in_parts(images: Images, kernel: Kernel, stride: int, padding: int) -> Outputs:
    """Convolve by `_scattered`, one part of a large batch after another."""
    even = isinstance(images.shape[0], int) and images.shape[0] % (PARTS * NEIGHBORS) == 0
    outputs: list[jax.Array] = []
    for part in jnp.split(images, PARTS) if even and images.size >= LARGE else [images]:
        if outputs:
            outputs[-1], kernel = lax.optimization_barrier((outputs[-1], kernel))
        outputs.append(_scattered(part, kernel, stride, padding, in_turn=True))
    return jnp.concatenate(outputs)


def _scattered(images: Images, kernel: Kernel, stride: int, padding: int, *, in_turn: bool = False) -> Outputs:
    """Convolve by adding the images times each tap to the outputs that they are part of.

    Its transpose by the images is a sum of slices, like `depthwise`. That of `depthwise` would be a sum of padded
    images, with zeros between the pixels if there is a stride, and takes 4 to 8 times as long.

    Its transpose by the kernel has a product of images and gradients for each tap. With `in_turn`, each waits for the
    one before: otherwise XLA keeps them all, and 7x7 taps take 20 times the memory and 4 times as long. And each is
    summed up by `_multiply`.
    """
    size, extents = kernel.shape[0], images.shape[1:3]
    rows, columns = (list(_shifts(extent, size, stride, padding)) for extent in extents)
    above, left = (max(0, *(-shift for *_, shift in side)) for side in (rows, columns))
    below, right = (max(0, *(shift for *_, shift in side)) for side in (rows, columns))
    weights = [kernel[row, column, 0] for (_, row, _), (_, column, _) in product(rows, columns)]
    apart = phases(images, stride)
    total: jax.Array | None = None
    for (row_phase, _, down), (column_phase, _, across) in product(rows, columns):
        if in_turn and total is not None:
            total, weights = lax.optimization_barrier((total, weights))
        maps, weight = apart[row_phase][column_phase], weights.pop(0)
        term = _multiply(maps, weight) if in_turn else maps * weight
        term = jnp.pad(term, ((0, 0), (above + down, below - down), (left + across, right - across), (0, 0)))
        total = term if total is None else total + term
    assert total is not None
    height, width = (output_extent(extent, size, stride, padding) for extent in extents)
    return total[:, above : above + height, left : left + width]


def _multiply(maps: Images, weight: Float[Array, " channels"]) -> Images:
    """Multiply, so that the transpose by the weight first adds the products of every `NEIGHBORS` images.

    These sums are element-wise, so XLA reads slices of the gradients where they are. YNNPACK, to which it gives the sum
    over all pixels, would need a copy of each slice.
    """
    count, *rest = maps.shape
    together = NEIGHBORS if isinstance(count, int) and count % NEIGHBORS == 0 else 1
    apart = maps.reshape(count // together, together, *rest)
    every = lax.optimization_barrier(jnp.broadcast_to(weight, (count // together, *rest)))
    return jnp.stack([apart[:, each] * every for each in range(together)], 1).reshape(maps.shape)


def _shifts(extent: int, size: int, stride: int, padding: int) -> Iterator[tuple[int, int, int]]:
    """Yield phase, tap and shift along one side: pixel `j` of the phase times the tap is part of output `j + shift`."""
    for tap in on_pixels(extent, size, stride, padding):
        phase = (tap - padding) % stride
        yield phase, tap, (phase + padding - tap) // stride
