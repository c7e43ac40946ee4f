"""Weights and batches for the golden runs, and condensed tensors; shared by the script and the tests, without torch.

NumPy's legacy `RandomState` is used because NumPy guarantees that its stream never changes.
"""

import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LEARNING_RATE = 0.02
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4  # on everything, as torch.optim.SGD does by default
STEPS = 5
CLASSES = 10
SAMPLES = 64  # entries kept of a tensor


class Case(NamedTuple):
    """One network at one image size; the name is torchvision's function."""

    name: str
    image_size: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.name}_{self.image_size}"


CASES = (Case("resnet18", 64, 4), Case("resnet18", 224, 2), Case("resnet50", 64, 4))


def draw_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Draw a network, float32, from the shapes of a torchvision state dict.

    Kernels have the kaiming scale; everything in BatchNorm is drawn too, so that no term is hidden by a 0 or a 1. Two
    choices make gradients comparable in float32. The last scale of each block is small, so that neither the signal nor
    its rounding errors grow with the depth. And BatchNorm's biases are 4 times its scales: a ReLU whose input is within
    a rounding error of 0 passes the gradient in one framework and blocks it in the other. With inputs centered on 0 a
    ResNet-50 at 64x64 has a handful of those, and gradients are up to 3e-3 apart (1e-5 with a smooth activation in
    both). So, in training, three channels of four are on for nearly every pixel, the fourth off.
    """
    rng = np.random.RandomState(seed)
    drawn = {}
    for key in sorted(shapes, reverse=True):  # weights before biases
        shape, (module, _, name) = shapes[key], key.rpartition(".")
        if name == "num_batches_tracked":
            continue
        if len(shape) > 1:
            values = rng.standard_normal(shape) * np.sqrt((2 if len(shape) == 4 else 1) / np.prod(shape[1:]))
        elif name == "weight":
            values = rng.uniform(0.5, 1.5, shape) * (0.2 if _ends_block(module, shapes) else 1.0)
        elif name == "bias" and module != "fc":
            values = rng.uniform(3.8, 4.2, shape) * drawn[f"{module}.weight"]
            values[::4] *= -1
        elif name == "running_var":
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.standard_normal(shape) * 0.1
        drawn[key] = values.astype(np.float32)
    return drawn


def draw_batches(case: Case, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Draw a batch for each step: images `[steps, batch, height, width, 3]`, float32, and labels `[steps, batch]`."""
    rng = np.random.RandomState(seed)
    images = rng.standard_normal((STEPS, case.batch_size, case.image_size, case.image_size, 3))
    return images.astype(np.float32), rng.randint(0, CLASSES, (STEPS, case.batch_size))


def condense(key: str, tensor: np.ndarray) -> np.ndarray:
    """Return the largest absolute entry, the norm and `SAMPLES` entries of a tensor, at places drawn from its key."""
    flat = np.asarray(tensor, np.float64).ravel()
    places = np.random.RandomState(zlib.crc32(key.encode())).randint(0, flat.size, SAMPLES)
    return np.concatenate([[np.abs(flat).max(), np.linalg.norm(flat)], flat[places]]).astype(np.float32)


def errors(ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the largest error of each condensed tensor, relative to the reference's largest entry (the norm's, to the
    norm).

    The gradient of a bias is measured against that of the weight beside it too: a channel that is always on shifts its
    consumer by a constant, which the next BatchNorm removes, so that its gradient may be only rounding errors.
    """
    return {key: _error(ours[key], reference[key], reference.get(_beside(key), reference[key])) for key in reference}


def _error(ours: np.ndarray, reference: np.ndarray, beside: np.ndarray) -> float:
    largest, norm = np.maximum(reference[:2], beside[:2])
    difference = np.abs(ours - reference)
    return float(max(difference[0] / largest, difference[1] / norm, difference[2:].max() / largest))


def _beside(key: str) -> str | None:
    return f"{key[: -len('bias')]}weight" if re.fullmatch(r"gradient/.*\.bias", key) else None


def _ends_block(module: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    match = re.fullmatch(r"(layer\d\.\d+\.bn)(\d)", module)
    return match is not None and f"{match[1]}{int(match[2]) + 1}.weight" not in shapes
