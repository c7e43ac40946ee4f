"""Convolution and batch normalisation with torchvision's numerics, NHWC."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

kaiming_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, eq. 14


class Conv(nnx.Module):
    """A square 2-D convolution without bias, padded by `kernel_size // 2` on every side.

    The explicit padding is PyTorch's. XLA's "SAME" pads a strided convolution at the bottom and right only, which shifts
    the features against torchvision's weights by a pixel.

    Attributes:
        kernel: `[height, width, in_channels / groups, out_channels]`, float32, drawn kaiming-normal (fan out).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_channels // groups, out_channels)
        self.kernel = nnx.Param(kaiming_normal(rngs.params(), shape, jnp.float32))
        self.stride = stride
        self.groups = groups
        self.dtype = dtype

    def __call__(
        self, images: Float[Array, "batch height width in_channels"]
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        padding = self.kernel.shape[0] // 2
        return lax.conv_general_dilated(
            images.astype(self.dtype),
            self.kernel[...].astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding=((padding, padding), (padding, padding)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )


class BatchNorm(nnx.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) as PyTorch computes it.

    In training it normalises with the biased variance of the batch and averages the *unbiased* one into `var`. Under
    `jit` with a sharded batch the mean is over the global batch, so statistics are synchronised over devices; with
    `group_size`, every run of that many consecutive images has statistics of its own ("ghost" batch normalisation,
    Hoffer et al. 2017), whatever the number of devices.

    Attributes:
        scale, bias: `[channels]`, trained, float32, start at 1 and 0.
        mean, var: `[channels]`, running statistics, float32, start at 0 and 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.9,  # share of the old average kept: 1 - PyTorch's momentum
        epsilon: float = 1e-5,
        group_size: int | None = None,
        dtype: jnp.dtype = jnp.float32,
    ):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
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
        return ((images.astype(jnp.float32) - mean) * factor + self.bias[...]).astype(self.dtype)
