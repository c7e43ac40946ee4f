"""Draw ResNet-18 from the module itself: `python docs/draw_resnet18.py` writes docs/images/resnet18.svg.

Shapes, channels, strides, blocks and shortcuts are read from `resnet_jax.ResNet18`, so the picture can't differ.
"""

from math import log2
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from resnet_jax import Conv, ResNet, ResNet18
from resnet_jax.models.resnet import STAGES

PATH = Path(__file__).parent / "images" / "resnet18.svg"
AXIS, TOP, BOTTOM, HEIGHT = 200, 44, 350, 456  # y of the images' way, of the bands' ends, and of the picture's end
INK, GRAY, PALE = "#222", "#5b5b5b", "#8c8c8c"
COLORS = ("#3f6fa3", "#2f7d73", "#a06a12", "#a8402f")  # of the stages
GAP, RADIUS = 11, 9  # pixels between boxes, and of a sum
BY = "&#215;"  # the sign of multiplication


class Layer(NamedTuple):
    """A convolution with the side and channels of its output."""

    kernel: int
    stride: int
    side: int
    channels: int

    @property
    def label(self) -> str:
        return f"{self.kernel}{BY}{self.kernel}, {self.channels}" + (f", /{self.stride}" if self.stride > 1 else "")

    @property
    def shape(self) -> str:
        return f"{self.side}{BY}{self.side}{BY}{self.channels}"


class Block(NamedTuple):
    """A residual block: its convolutions, and the projection in its shortcut, or None for the identity."""

    layers: list[Layer]
    projection: Layer | None


def after(module: nnx.Module, maps: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda module, maps: module(maps), module, maps)


def layer_of(conv: Conv, maps: jax.ShapeDtypeStruct) -> Layer:
    _, side, _, channels = after(conv, maps).shape
    return Layer(conv.kernel.shape[0], conv.stride, side, channels)


def walk(model: ResNet, size: int) -> tuple[Layer, list[list[Block]]]:
    """Return the first convolution, and the blocks of each stage, for images of `size` pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    features = jax.eval_shape(lambda model, images: model.features(images), model, images)
    maps, stages = features.stages[0], []  # the first stage changes no shape
    for name in STAGES:
        blocks = []
        for block in getattr(model, name):
            layers = [layer_of(block.conv1, maps), layer_of(block.conv2, after(block.conv1, maps))]
            blocks.append(Block(layers, layer_of(block.downsample[0], maps) if block.downsample else None))
            maps = after(block, maps)
        stages.append(blocks)
    return layer_of(model.conv1, images), stages


def height_of(side: int) -> float:
    return 126 + 18 * log2(side / 7)


class Picture:
    """An SVG picture that grows to the right; `x` is where it goes on."""

    def __init__(self) -> None:
        self.x, self.weighted = 76.0, 0
        self.bands: list[str] = []
        self.front: list[str] = []

    def text(self, x: float, y: float, text: str, color: str = INK, size: int = 15, options: str = "") -> None:
        self.front.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" {options}>{text}</text>')

    def line(self, path: str, options: str = "") -> None:
        self.front.append(f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="2" {options}/>')

    def sum(self, x: float, y: float) -> None:
        self.front.append(f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="#fff" stroke="{INK}" stroke-width="2"/>')
        self.line(f"M{x - 5:g} {y}h10M{x:g} {y - 5}v10")

    def box(self, width: float, height: float, label: str, color: str, weighted: bool = False) -> None:
        """Draw a layer with its label upright, and with its number if it has weights."""
        x, middle, center = self.x, self.x + width / 2, AXIS - 9 * weighted
        size = f'width="{width:g}" height="{height:g}" rx="4"'
        self.front.append(f'<rect x="{x:g}" y="{AXIS - height / 2:g}" {size} fill="{color}"/>')
        self.text(middle, center, label, "#fff", 15, f'transform="rotate(-90 {middle:g} {center})" dy=".35em"')
        if weighted:
            self.weighted += 1
            self.text(middle, AXIS + height / 2 - 7, str(self.weighted), "#fff", 15, 'font-weight="bold"')
        self.x += width + GAP

    def convolution(self, layer: Layer, color: str) -> None:
        """Draw a box whose height shows the resolution, and whose width the number of channels."""
        self.box(6 * log2(layer.channels) - 12, height_of(layer.side), layer.label, color, weighted=True)

    def block(self, block: Block, color: str) -> None:
        start, top = self.x, AXIS - height_of(block.layers[-1].side) / 2 - 18
        self.x += 16
        for layer in block.layers:
            self.convolution(layer, color)
        end, dashes = self.x + RADIUS, 'stroke-dasharray="6 4"' if block.projection else ""
        arc = f"M{start:g} {AXIS}V{top + 32:g}q0 -32 32 -32H{end - 32:g}q32 0 32 32V{AXIS - RADIUS - 1}"
        self.line(arc, f'{dashes} marker-end="url(#arrow)"')
        if block.projection:
            self.text((start + end) / 2, top - 7, block.projection.label)
        self.front.append(f'<circle cx="{start:g}" cy="{AXIS}" r="3.5" fill="{INK}"/>')
        self.sum(end, AXIS)
        self.x = end + RADIUS + GAP

    def band(self, start: float, color: str, title: str, *shapes: str) -> None:
        """Draw what is behind a part of the network from `start` to here, with its name and the shapes of its maps."""
        end = self.x
        size = f'width="{end - start:g}" height="{BOTTOM - TOP}" rx="8"'
        self.bands.append(f'<rect x="{start:g}" y="{TOP}" {size} fill="{color}" fill-opacity=".13"/>')
        self.text((start + end) / 2, BOTTOM - 12, title, color, 16, 'font-weight="bold"')
        for row, shape in enumerate(shapes):
            self.text((start + end) / 2, BOTTOM + 20 + 18 * row, shape, INK, 16)
        self.x = end + 7


def draw(model: ResNet, size: int = 224) -> str:
    """Return the picture of a network, for images of `size` pixels."""
    (stem, stages), picture = walk(model, size), Picture()
    features, classes = model.fc.kernel.shape
    pooled = stages[0][0].layers[0]
    blocks = sum(map(len, stages))
    picture.text(40, AXIS - 12, "image")
    picture.text(40, AXIS + 22, f"{size}{BY}{size}")
    picture.text(40, AXIS + 40, f"{BY}3")
    start, picture.x = picture.x, picture.x + 18
    picture.convolution(stem, GRAY)
    picture.box(22, height_of(pooled.side), "max pool, /2", PALE)
    picture.x += 6
    picture.band(start, GRAY, "stem", stem.shape, f"then {pooled.shape}")
    for name, members, color in zip(STAGES, stages, COLORS, strict=True):
        start, picture.x = picture.x, picture.x + GAP
        for block in members:
            picture.block(block, color)
        picture.band(start, color, f"{name}: {len(members)} blocks", members[-1].layers[-1].shape)
    start, picture.x = picture.x, picture.x + GAP
    picture.box(22, height_of(7), "mean", PALE)
    picture.box(34, height_of(7), f"dense, {classes}", GRAY, weighted=True)
    picture.band(start, GRAY, "head", f"{features}, then", f"{classes}")
    picture.text(
        16,
        28,
        f"{type(model).__name__}: {picture.weighted} layers with weights, {blocks} blocks",
        INK,
        18,
        "class='left'",
    )
    return finished(picture)


def finished(picture: Picture) -> str:
    """Add the legend, and return the file."""
    width, y, left = picture.x + 16, HEIGHT - 36, "class='left'"
    picture.line(f"M16 {y - 5}h40")
    picture.text(66, y, "shortcut: the identity", options=left)
    picture.line(f"M16 {y + 19}h40", 'stroke-dasharray="6 4"')
    picture.text(66, y + 24, f"shortcut: a 1{BY}1 projection, not counted", options=left)
    picture.sum(398, y - 5)
    picture.text(418, y, "shortcut + residual, then ReLU", options=left)
    parts = (
        f"k{BY}k, c, /s",
        f"convolution of k{BY}k with c channels and stride s, then BatchNorm; ReLU unless a sum follows",
    )
    picture.text(388, y + 24, parts[0], options=f'{left} font-weight="bold"')
    picture.text(474, y + 24, parts[1], options=left)
    arrow = 'id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {HEIGHT}" text-anchor="middle" '
            'font-family="Helvetica, Arial, sans-serif">',
            f'<rect width="{width:g}" height="{HEIGHT}" fill="#fff"/>',
            "<style>.left { text-anchor: start }</style>",
            f'<marker {arrow} markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>',
            *picture.bands,
            f'<path d="M68 {AXIS}H{width - 12:g}" stroke="{INK}" stroke-width="2" marker-end="url(#arrow)"/>',
            *picture.front,
            "</svg>\n",
        )
    )


if __name__ == "__main__":
    PATH.write_text(draw(nnx.eval_shape(ResNet18)))
