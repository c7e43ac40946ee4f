"""Layers one after another, with the keys of PyTorch's Sequential."""

from collections.abc import Callable, Hashable, Iterator
from functools import cache
from inspect import signature
from itertools import islice
from typing import Any, cast

import jax
from flax import nnx


class Sequential(nnx.Module):
    """Layers one after another: modules, and functions or values without weights.

    A layer is the attribute of its number, so the path of a weight in it is `("3", "kernel")`, and its key `3.weight`;
    or of its name, if it is given by keyword. The mode and the random state of a call go to the layers that take them.
    """

    def __init__(self, *layers: Callable, **named: Callable):
        each = {str(number): layer for number, layer in enumerate(layers)} | named
        self.names = tuple(each)
        for name, layer in each.items():
            setattr(self, name, layer)

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Any:
        return getattr(self, self.names[number])

    def __call__(
        self,
        maps: Any,
        *,
        train: bool | None = None,
        rngs: nnx.Rngs | None = None,
        count: int | None = None,
    ) -> jax.Array:
        """Apply the layers, or the first `count` of them."""
        for layer in islice(self, count):
            maps = apply(layer, maps, train=train, rngs=rngs)
        return maps


def apply(layer: Any, maps: Any, *, train: bool | None, rngs: nnx.Rngs | None) -> jax.Array:
    """Call a layer with those of `train` and `rngs` that it takes."""
    given, kind = {"train": train, "rngs": rngs}, cast(Hashable, type(layer))
    return layer(maps, **{name: given[name] for name in given if name in _parameters(kind)})


@cache
def _parameters(kind: Any) -> frozenset[str]:
    """Return the parameters of a module's call; none of a function or of a value without weights."""
    return frozenset(signature(kind.__call__).parameters) if issubclass(kind, nnx.Module) else frozenset()
