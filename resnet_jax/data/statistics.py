"""Mean and standard deviation of a data set's channels."""

import numpy as np
from jaxtyping import Float, UInt8

_CHUNK_VALUES = 1 << 24  # NumPy counts in integers of 8 bytes: 128 MB at a time


def channel_statistics(
    images: UInt8[np.ndarray, "n height width 3"],
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Compute mean and standard deviation of each channel over all pixels, in units of 0 to 1, exactly."""
    levels, counts = np.arange(256) / 255, np.zeros((3, 256), np.int64)
    chunk = max(_CHUNK_VALUES // max(images[:1].size, 1), 1)
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk]
        counts += [np.bincount(part[..., channel].ravel(), minlength=256) for channel in range(3)]
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2)
    return mean.astype(np.float32), np.maximum(std, 1 / 255).astype(np.float32)
