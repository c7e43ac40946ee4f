"""Convolution and batch normalisation with torchvision's numerics, NHWC."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14


class Conv(nnx.Module):
    """A square 2-D convolution without bias, padded by `kernel_size // 2` on every side.

    The explicit padding is PyTorch's. XLA's "SAME" pads a strided convolution at the bottom and right only, which
    shifts the features against torchvision's weights by a pixel.

    Attributes:
        kernel: `[height, width, in_channels / groups, out_channels]`, float32, drawn kaiming-normal (fan out).

    Raises:
        ValueError: the channels don't divide evenly into `groups`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv got {in_channels} -> {out_channels} channels; wanted multiples of groups={groups}")
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        self.kernel = nnx.Param(kaiming_normal(rngs.params(), shape, jnp.float32))
        self.stride = stride
        self.groups = groups
        self.dtype = dtype

    def __call__(
        self, images: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        return convolve(images.astype(self.dtype), self.kernel[...].astype(self.dtype), self.stride, self.groups)


def convolve(
    images: Float[Array, "batch height width in_channels"],
    kernel: Float[Array, "size size group_channels out_channels"],
    stride: int,
    groups: int = 1,
) -> Float[Array, "batch out_height out_width out_channels"]:
    """Convolves with `size // 2` zeros of padding on every side.

    XLA's CPU convolution is 15 to 50 times slower than the same matrix product where the output is 2x2 or 1x1 (64
    images, 512 channels: 47 ms against 0.9), so there it is lowered as one. The last stages of small images live there.
    """
    size, padding = kernel.shape[0], kernel.shape[0] // 2
    out_height, out_width = ((extent + 2 * padding - size) // stride + 1 for extent in images.shape[1:3])

    def convolution(images, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(stride, stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def matrix_product(images, kernel):
        padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        patches = [
            padded[:, row : row + stride * out_height : stride, column : column + stride * out_width : stride]
            for row in range(size)
            for column in range(size)
        ]
        return jnp.concatenate(patches, -1) @ kernel.reshape(-1, kernel.shape[-1])

    if groups == 1 and size > 1 and out_height * out_width <= 4:
        return lax.platform_dependent(images, kernel, cpu=matrix_product, default=convolution)
    return convolution(images, kernel)


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) as PyTorch computes it.

    In training it normalises with the biased variance of the batch and averages the *unbiased* one into `var`. Under
    `jit` with a sharded batch the mean is over the global batch, so statistics are synchronised over devices; with
    `group_size`, every run of that many consecutive images has statistics of its own ("ghost" batch normalisation,
    Hoffer et al. 2017), whatever the number of devices.

    Attributes:
        scale, bias: `[channels]`, trained, float32, start at 1 and 0.
        mean, var: `[channels]`, running statistics, float32, start at 0 and 1.
        num_batches_tracked: PyTorch's count of updates, which loaded weights bring along; not advanced here.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.9,  # share of the old average kept: 1 - PyTorch's momentum
        epsilon: float = 1e-5,
        group_size: int | None = None,
        dtype: DTypeLike = jnp.float32,
    ):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.num_batches_tracked = 0
        self.momentum = momentum
        self.epsilon = epsilon
        self.group_size = group_size
        self.dtype = dtype

    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width channels"]:
        """Normalises `images`; with `train`, by their own statistics, which also move the running ones.

        Raises:
            ValueError: in training, where a channel has a single value (its variance is undefined) or the batch is no
                multiple of `group_size`.
        """
        if not train:
            return self._affine(images, self.mean[...], self.var[...])
        batch, height, width, channels = images.shape
        size = self.group_size or batch
        count = size * height * width
        if count < 2:
            raise ValueError(
                f"BatchNorm got one value per channel (shape {images.shape}, group_size {self.group_size}); training "
                "needs at least two: use a larger batch, larger images, or train=False"
            )
        if batch % size:
            raise ValueError(f"BatchNorm got {batch} images; wanted a multiple of group_size={size}")
        groups = images.reshape(batch // size, size, height, width, channels)
        values = groups.astype(jnp.float32)
        mean = values.mean((1, 2, 3), keepdims=True)
        var = jnp.square(values - mean).mean((1, 2, 3), keepdims=True)
        self._average(self.mean, mean)
        self._average(self.var, var * (count / (count - 1)))
        return self._affine(groups, mean, var).reshape(images.shape)

    def _average(self, running: nnx.BatchStat, groups: Float[Array, "groups 1 1 1 channels"]) -> None:
        new = lax.stop_gradient(groups.mean((0, 1, 2, 3)))
        running[...] = self.momentum * running[...] + (1 - self.momentum) * new

    def _affine(self, images: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
        factor = self.scale[...] * lax.rsqrt(var + self.epsilon)
        return (images.astype(jnp.float32) * factor + (self.bias[...] - mean * factor)).astype(self.dtype)
