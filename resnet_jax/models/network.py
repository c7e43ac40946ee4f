"""A network of the registry with its sizes, built with weights or without."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from flax import nnx

from resnet_jax.models.registry import REGISTRY, Architecture, Entry, Stem
from resnet_jax.models.resnet import ResNet


@dataclass(frozen=True)
class Network:
    """A network of the registry, with the arguments that the shapes of its weights depend on."""

    arch: Architecture
    num_classes: int = 1000
    stem: Stem = "imagenet"
    width: int = 64

    @property
    def entry(self) -> Entry:
        return REGISTRY[self.arch]

    def build(self, **options: Any) -> ResNet:
        """Build the network with fresh weights.

        Args:
            options: further arguments of its class, such as `dtype` and `rngs`.

        Raises:
            ValueError: an argument is out of its range.
        """
        module, name = self.entry.builder.split(":")
        network = getattr(import_module(f"resnet_jax.models.{module}"), name)
        return network(self.num_classes, stem=self.stem, width=self.width, **options)

    def abstract(self, **options: Any) -> ResNet:
        """Build the network with shapes in place of weights, to be filled by `weights.torchvision.assign`."""
        return nnx.merge(*_shapes(self, **options), copy=True)


@cache  # tracing a deep network takes over a second
def _shapes(network: Network, **options: Any) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: network.build(**options)))
