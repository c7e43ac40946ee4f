"""What the networks beside the ResNets have in common: their arguments, their parts, and how they end."""

from collections.abc import Callable
from functools import partial, reduce
from inspect import Signature, signature
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from resnet_jax.models.interface import Features, Images
from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.layers.pooling import global_average
from resnet_jax.models.layers.sequential import Sequential, apply
from resnet_jax.models.registry import Stem


class Make(NamedTuple):
    """Functions that make layers with the type and random state of a network."""

    conv: Callable[..., Conv]
    """`Conv` without `dtype` and `rngs`."""
    norm: Callable[..., BatchNorm]
    """`BatchNorm` without `dtype` and `group_size`."""
    linear: Callable[..., nnx.Linear]
    """`nnx.Linear` without `rngs`; it computes in float32."""
    dtype: DTypeLike
    rngs: nnx.Rngs


class ConvNet(nnx.Module):
    """A convolutional network: parts from the images to the last maps, pooling, classifier.

    It is the base of every network here. A subclass says what it consists of in `build`.

    Args:
        num_classes: number of logits.
        stem: "imagenet" as published, or "cifar" for images of about 32x32 pixels, as the subclass describes.
        dtype: type of the computation, `jnp.bfloat16` on TPU and GPU. Parameters, statistics and logits are float32.
        norm: "sync", statistics over the global batch; "ghost", over groups of `ghost_size` images.
        ghost_size: images in a group of "ghost" normalization.
        rngs: draws the weights, from its `params` stream; `nnx.Rngs(0)` by default.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """

    head: ClassVar[str]
    """Path of the classifier's last layer, such as "classifier.6"."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _, *parameters = signature(cls.__init__).parameters.values()
        cls.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # NNX's metaclass would hide it

    def __init__(
        self,
        num_classes: int = 1000,
        *,
        stem: Stem = "imagenet",
        dtype: DTypeLike = jnp.float32,
        norm: Literal["sync", "ghost"] = "sync",
        ghost_size: int = 128,
        rngs: nnx.Rngs | None = None,
    ):
        rngs = nnx.Rngs(0) if rngs is None else rngs
        check_arguments(self, stem=stem, norm=norm, rngs=rngs, num_classes=num_classes, ghost_size=ghost_size)
        self.stem = stem
        self.build(
            num_classes,
            Make(
                conv=partial(Conv, dtype=dtype, rngs=rngs),
                norm=partial(BatchNorm, dtype=dtype, group_size=ghost_size if norm == "ghost" else None),
                linear=partial(nnx.Linear, rngs=rngs),
                dtype=dtype,
                rngs=rngs,
            ),
        )

    def build(self, num_classes: int, make: Make) -> None:
        """Set the layers as attributes with torchvision's names; `self.stem` is set."""
        raise NotImplementedError

    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Return the paths of the parts, by stage, from the images on; each stage ends before the next downsampling."""
        raise NotImplementedError

    def pool(self, maps: jax.Array, *, train: bool | None, rngs: nnx.Rngs | None) -> Float[Array, "batch features"]:
        """Compute what the classifier's last layer takes, float32, from the last maps: by default, their average."""
        return global_average(maps)

    def classify(
        self, maps: jax.Array, *, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        """Compute the logits, float32, from the last maps."""
        return part(self, self.head)(self.pool(maps, train=train, rngs=rngs))

    def maps(self, images: Images, *, train: bool | None, rngs: nnx.Rngs | None) -> tuple[jax.Array, ...]:
        """Compute the output of each stage.

        Raises:
            ValueError: the images are too small.
        """
        maps: Any = images
        found = []
        for paths in self.stages():
            for path in paths:
                maps = apply(part(self, path), maps, train=train, rngs=rngs)
            found.append(maps)
        if 0 in maps.shape:
            raise ValueError(
                f"{type(self).__name__} got images of {images.shape[1]}x{images.shape[2]} pixels; expected larger "
                "ones, since its poolings and strides leave nothing of these"
            )
        return tuple(found)

    def features(self, images: Images, *, train: bool | None = None, rngs: nnx.Rngs | None = None) -> Features:
        """Compute the pooled features and the output of each stage, for use as a backbone.

        Args:
            images: normalized images.
            train: normalize by the statistics of the batch, update the running ones, and apply dropout. By default,
                as `model.train()` or `model.eval()` has set it; evaluation from the start.
            rngs: random state of the call, whose stream `dropout` is used.

        Returns:
            `pooled`, what the classifier's last layer takes, float32; `stages`, maps in `dtype`, from the highest
            resolution to the lowest.
        """
        maps = self.maps(images, train=train, rngs=rngs)
        return Features(self.pool(maps[-1], train=train, rngs=rngs), maps)

    def __call__(
        self, images: Images, *, train: bool | None = None, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        """Compute the logits, float32, of normalized `images`; `train` and `rngs` as in `features`."""
        return self.classify(self.maps(images, train=train, rngs=rngs)[-1], train=train, rngs=rngs)

    def depth(self, path: tuple) -> int:
        """Return how far a weight is below the classifier: 0 in its last layer, 1 in its others, more in each stage.

        Args:
            path: attribute names and indices from the network to the weight.
        """
        names = ".".join(map(str, path)) + "."
        if names.startswith(f"{self.head}."):
            return 0
        for depth, paths in enumerate(reversed(self.stages()), 1):
            if any(names.startswith(f"{each}.") for each in paths):
                return depth
        return 1


def joined(stages: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Join the first two stages, for a stem without the downsampling between them."""
    first, second, *others = stages
    return (first + second, *others)


def trunk_stages(*ends: int, trunk: str = "trunk") -> tuple[tuple[str, ...], ...]:
    """Return the paths of the layers of `trunk` by stage, from the number of layers up to the end of each stage."""
    return tuple(tuple(f"{trunk}.{number}" for number in range(start, end)) for start, end in pairwise((0, *ends)))


def part(model: nnx.Module, path: str) -> Any:
    """Return the part of a network at a path such as "classifier.6"."""

    def inner(module: Any, name: str) -> Any:
        return module[int(name)] if isinstance(module, nnx.List) else getattr(module, name)

    return reduce(inner, path.split("."), model)


def check_arguments(model: nnx.Module, *, stem: Any, norm: Any, rngs: Any, **counts: Any) -> None:
    """Raise an error for an argument of a network that has the wrong type or is out of its range."""
    name = type(model).__name__
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} got {key}={value!r}; expected an integer")
        if value < 1:
            raise ValueError(f"{name} got {key}={value}; expected 1 or more")
    if stem not in get_args(Stem) or norm not in ("sync", "ghost"):
        raise ValueError(
            f"{name} got stem={stem!r} and norm={norm!r}; "
            "expected stem='imagenet' or 'cifar', and norm='sync' or 'ghost'"
        )
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"{name} got rngs={rngs!r}; expected flax.nnx.Rngs, for example nnx.Rngs(0)")


def conv_norm(make: Make, *sizes: int, activation: Callable | None = nnx.relu, **options: Any) -> Sequential:
    """Make a convolution of `Conv(*sizes, **options)`, its normalization and, unless None, an activation."""
    layers = (make.conv(*sizes, **options), make.norm(sizes[1]))
    return Sequential(*layers, *((activation,) if activation else ()))
