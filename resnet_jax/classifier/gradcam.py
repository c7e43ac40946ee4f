"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in an image a class was seen, as a heat map over it."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8
from PIL import Image

from resnet_jax.errors import writing

SIDE = 224  # minimum side of an overlay, pixels: the images of small networks are enlarged
OPACITY = 0.7  # of the heat map where it is highest


def grad_cam(
    maps: Float[Array, "batch height width channels"], gradients: Float[Array, "batch height width channels"]
) -> Float[Array, "batch height width"]:
    """Weight the maps of the last stage by the mean gradient of a class's logit, and keep what supports the class.

    Args:
        maps: output of the last stage, `Features.stages[-1]`.
        gradients: of the logit of one class, by `maps`.
    """
    weights = gradients.astype(jnp.float32).mean((1, 2))
    return nnx.relu(jnp.einsum("bhwc,bc->bhw", maps.astype(jnp.float32), weights))


def draw_overlay(
    image: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "side side 3"]:
    """Lay a heat map over the image that the network saw; its highest value is the most opaque.

    Args:
        image: the preprocessed crop, enlarged to at least 224 pixels by whole factors.
        heat: of any scale, 0 or more; enlarged bilinearly.
    """
    import matplotlib  # takes a third of a second, and the other commands do not need it

    side = len(image) * max(1, -(-SIDE // len(image)))
    picture = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    enlarged = Image.fromarray(np.asarray(heat, np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    strength = np.asarray(enlarged) / max(float(heat.max()), np.finfo(np.float32).tiny)
    colors = matplotlib.colormaps["inferno"](strength)[..., :3]
    alpha = OPACITY * strength[..., None]
    return np.rint(255 * ((1 - alpha) * picture + alpha * colors)).astype(np.uint8)


def write_overlay(path: Path, image: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "height width"]) -> None:
    """Write `draw_overlay` as PNG, with the folders above it.

    Raises:
        UserError: it can't be written.
    """
    with writing(path, "give another --explain-dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_overlay(image, heat)).save(path)
