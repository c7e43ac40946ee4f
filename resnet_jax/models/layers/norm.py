"""Batch normalization as PyTorch computes it."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class BatchNorm(nnx.Module):
    """Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) as PyTorch computes it.

    In training it normalizes with the biased variance of the batch and averages the *unbiased* one into `var`. Under
    `jit` with a sharded batch the mean is over the global batch, so statistics are synchronized over devices. With
    `group_size`, every group of that many consecutive images has its own statistics ("ghost" batch normalization,
    Hoffer et al. 2017, arXiv:1705.08741), for any number of devices.

    The statistics take one pass over the images, as sums of `x - origin` and of its square (Chan, Golub and LeVeque
    1983, section 3). The origin is the running mean: it is close to the mean, so that little cancels, and known before
    the pass, so that a compiler can fuse the sums with the convolution that writes the images. The sums are named
    "statistics" for the policies of `jax.checkpoint`.

    Attributes:
        scale, bias: `[channels]`, trained, float32, start at 1 and 0.
        mean, var: `[channels]`, running statistics, float32, start at 0 and 1.
        num_batches_tracked: PyTorch's count of updates, kept from loaded weights; it does not advance here.
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
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(channels, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(channels, jnp.float32))
        self.num_batches_tracked = 0
        self.use_running_average = True  # the name by which NNX's own train() and eval() find it
        self.momentum = momentum
        self.epsilon = epsilon
        self.group_size = group_size
        self.dtype = dtype

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Set the mode of the copy that `nnx.view` makes.

        Args:
            use_running_average: normalize by the running statistics, as in evaluation.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average

    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool | None = None
    ) -> Float[Array, "batch height width channels"]:
        """Normalize `images`.

        Args:
            images: maps of any floating-point type.
            train: normalize by the statistics of `images`, and move the running statistics. By default, as
                `model.train()` or `model.eval()` has set it; evaluation from the start.

        Raises:
            ValueError: in training, if a channel has a single value (its variance is undefined) or the batch is not a
                multiple of `group_size`.
        """
        if not (train if train is not None else not self.use_running_average):
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
            raise ValueError(f"BatchNorm got {batch} images; expected a multiple of group_size={size}")
        origin = lax.stop_gradient(self.mean[...])
        groups = _wide(images.reshape(batch // size, size, height, width, channels)) - origin
        offset, square = (
            checkpoint_name(values.mean((1, 2, 3), keepdims=True), "statistics")
            for values in (groups, jnp.square(groups))
        )
        var = jnp.maximum(square - jnp.square(offset), 0)
        self._average(self.mean, origin + offset)
        self._average(self.var, var * (count / (count - 1)))
        return self._affine(groups, offset, var).reshape(images.shape)

    def _average(self, running: nnx.BatchStat, groups: Float[Array, "groups 1 1 1 channels"]) -> None:
        new = lax.stop_gradient(groups.mean((0, 1, 2, 3))).astype(running.dtype)
        running.set_value(self.momentum * running[...] + (1 - self.momentum) * new)

    def _affine(self, images: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
        factor = self.scale[...] * lax.rsqrt(var + self.epsilon)
        return (_wide(images) * factor + (self.bias[...] - mean * factor)).astype(self.dtype)


def _wide(images: jax.Array) -> jax.Array:
    """Return the values in float32, or in their own type if that is wider."""
    return images.astype(jnp.promote_types(images.dtype, jnp.float32))
