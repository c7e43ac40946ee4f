"""ResNet-18 on JAX and Flax NNX: importable modules, a trainer, and weights that match torchvision's.

Public names are imported when they are first used (PEP 562): `import resnet_jax` alone loads neither JAX nor Flax.
"""

from typing import Any

import lazy_loader

_public, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("resnet-nnx")
    return _public(name)
