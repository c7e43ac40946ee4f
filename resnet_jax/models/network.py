"""A network of the registry with its sizes, built with weights or without."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import signature
from typing import Any

from flax import nnx

from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.registry import REGISTRY, Architecture, Entry, Stem

PUBLISHED_WIDTH = 64
"""Channels of a ResNet's first stage; other networks have one width, which this stands for."""


@dataclass(frozen=True)
class Network:
    """A network of the registry, with the arguments that the shapes of its weights depend on."""

    arch: Architecture
    num_classes: int = 1000
    stem: Stem = "imagenet"
    width: int = PUBLISHED_WIDTH

    @property
    def entry(self) -> Entry:
        return REGISTRY[self.arch]

    @property
    def has_widths(self) -> bool:
        """Whether the network exists in other widths than the published one."""
        return "width" in signature(self._class()).parameters

    def build(self, **options: Any) -> ConvNet:
        """Build the network with fresh weights.

        Args:
            options: further arguments of its class, such as `dtype` and `rngs`.

        Raises:
            ValueError: an argument is out of its range, or the network does not have it.
        """
        network = self._class()
        sizes = {} if self.width == PUBLISHED_WIDTH else {"width": self.width}
        if other := (sizes | options).keys() - signature(network).parameters.keys():
            raise ValueError(f"{self.arch} has no {', '.join(sorted(other))}: leave it out")
        return network(self.num_classes, stem=self.stem, **sizes, **options)

    def abstract(self, **options: Any) -> ConvNet:
        """Build the network with shapes in place of weights, to be filled by `weights.torchvision.assign`."""
        return nnx.merge(*_shapes(self, **options), copy=True)

    def _class(self) -> Any:
        module, name = self.entry.builder.split(":")
        return getattr(import_module(f"resnet_jax.models.{module}"), name)


@cache  # tracing a deep network takes over a second
def _shapes(network: Network, **options: Any) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: network.build(**options)))
