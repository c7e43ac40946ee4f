"""ResNet-18 on JAX and Flax NNX: importable modules, a trainer, and weights that match torchvision's.

Public names are imported when they are first used (PEP 562): `import resnet_jax` alone loads neither JAX nor Flax.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
