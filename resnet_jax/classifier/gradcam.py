"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where in an image a class was seen, as a heat map over it."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8
from PIL import Image

from resnet_jax.errors import writing
from resnet_jax.models.convnet import ConvNet

SIDE = 224  # minimum side of an overlay, pixels: the images of small networks are enlarged
COLORS = 256
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
    return nnx.relu((maps.astype(jnp.float32) * weights[:, None, None]).sum(-1))


def explained(
    model: ConvNet, images: Float[Array, "batch height width 3"]
) -> tuple[Float[Array, "batch classes"], Float[Array, "batch rows columns"]]:
    """Compute the logits of normalized images, and Grad-CAM of the likeliest class."""
    maps = model.maps(images, train=False, rngs=None)[-1]
    logits, gradients_of = jax.vjp(partial(model.classify, train=False), maps)
    likeliest = logits == logits.max(1, keepdims=True)  # unlike argmax, this can be written to ONNX
    (gradients,) = gradients_of(likeliest.astype(logits.dtype))
    return logits, grad_cam(maps, gradients)


def draw_overlay(
    image: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "side side 3"]:
    """Lay a heat map over the image that the network saw; its highest value is the most opaque.

    Args:
        image: the preprocessed crop, enlarged to at least 224 pixels by whole factors.
        heat: of any scale, 0 or more; enlarged bilinearly.
    """
    side = len(image) * max(1, -(-SIDE // len(image)))
    picture = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    enlarged = Image.fromarray(np.asarray(heat, np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    strength = np.asarray(enlarged) / max(float(heat.max()), np.finfo(np.float32).tiny)
    colors = heat_colors()[np.minimum(strength * COLORS, COLORS - 1).astype(int)] / 255
    alpha = OPACITY * strength[..., None]
    return np.rint(255 * ((1 - alpha) * picture + alpha * colors)).astype(np.uint8)


def heat_colors() -> UInt8[np.ndarray, "256 3"]:
    """Return the colors of heat, from none to the highest."""
    import matplotlib  # takes a third of a second, and the other commands do not need it

    return matplotlib.colormaps["inferno"](np.arange(COLORS), bytes=True)[:, :3]


def write_overlay(path: Path, image: UInt8[np.ndarray, "size size 3"], heat: Float[np.ndarray, "height width"]) -> None:
    """Write `draw_overlay` as PNG, with the folders above it.

    Raises:
        UserError: it can't be written.
    """
    with writing(path, "give another --explain-dir"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_overlay(image, heat)).save(path)
