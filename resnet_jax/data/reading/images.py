"""Encoded images to uint8 RGB arrays."""

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import ExifTags, Image, ImageOps

from resnet_jax.data.reading.formats import image_suffixes
from resnet_jax.errors import UserError

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"]
Result = TypeVar("Result")
THIN = 64  # times the square's area; above it only the square is resized: a line of pixels could take 1 GB
_CHUNK = 1024  # examples read ahead, which bounds the memory for encoded images


class Example(NamedTuple):
    """An encoded image, where it comes from (for messages) and its class."""

    origin: str
    encoded: bytes | Path
    label: int


@runtime_checkable
class Examples(Protocol):
    """Examples whose number is known before they are read; pickled, they can be read in another process."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Example]: ...
    def __getitem__(self, index: int, /) -> Example: ...


@runtime_checkable
class ReadTogether(Protocol):
    """Examples that can be read faster at once than one by one."""

    def together(self, indices: Sequence[int]) -> Mapping[int, Example]:
        """Return examples by their index; none if that is not faster here, or if one of them can't be read."""
        ...


def encode_png(image: UInt8[np.ndarray, "height width *channels"]) -> bytes:
    """Encode a grayscale (no channels axis) or RGB image losslessly."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "png")
    return png.getvalue()


def decode_rgb(
    encoded: bytes | Path,
    image_size: int | None,
    *,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one image, upright, as RGB; given a size, resize its shorter side and crop the center square.

    The shorter side becomes `resize` pixels, by default `image_size`, the side of the square. Resizing has
    antialiasing, and an alpha channel is dropped, as in torchvision's transforms.

    Raises:
        OSError, SyntaxError, ValueError: Pillow can't read it, it is truncated, or the range of its values is unknown.
        Image.DecompressionBombError: it has more pixels than Pillow's limit, about 179 million.
    """
    with open_image(encoded) as image:
        return to_rgb(image, image_size, resize=resize, interpolation=interpolation)


def open_image(encoded: bytes | Path) -> Image.Image:
    """Open an image without decoding it; raise what `decode_rgb` raises."""
    image_suffixes()  # which makes Pillow know all formats
    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)


def to_rgb(
    image: Image.Image, image_size: int | None, *, resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> UInt8[np.ndarray, "height width 3"]:
    """Do the same as `decode_rgb` with an image of Pillow, which stays as it is."""
    image = upright_rgb(image)
    if image_size is not None:
        shorter = resize or image_size
        # Like torchvision: the longer side is cut to whole pixels, and half pixels at the corner are rounded to even.
        width, height = (int(shorter * side / min(image.size)) for side in image.size)
        left, top = (round((side - image_size) / 2) for side in (width, height))
        filter_ = Image.Resampling[interpolation.upper()]
        square = (left, top, left + image_size, top + image_size)
        if width * height < THIN * image_size**2:
            image = image.resize((width, height), filter_).crop(square)
        else:  # only the square is computed, which is the same up to rounding
            across, down = image.width / width, image.height / height
            box = (square[0] * across, square[1] * down, square[2] * across, square[3] * down)
            image = image.resize((image_size, image_size), filter_, box=box)
    return np.asarray(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an image of Pillow to RGB, and turn it upright; raise what `decode_rgb` raises."""
    image.load()
    kind = image.format
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)  # a copy
    if image.mode == "F" or (image.mode == "I" and kind != "PPM"):  # Pillow would clip them to 0..255
        raise ValueError("it has 32 bits per pixel, of which the range is not known; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip as well
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def decode(
    examples: Examples,
    image_size: int | None,
    resize: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> tuple[UInt8[np.ndarray, "n height width 3"], Int32[np.ndarray, " n"]]:
    """Decode every example into one array of images and one of labels; see `decode_rgb`.

    Raises:
        UserError: an image is unreadable, has another size than the first, or together they do not fit in memory.
    """

    iterator, decode_one = iter(examples), _decoder(image_size, resize, interpolation)
    first = next(iterator)
    shape = (image_size, image_size, 3) if image_size else decode_one(first).shape
    images = np.empty(_fitting((len(examples), *shape)), np.uint8)
    labels = np.empty(len(examples), np.int32)
    for index, (example, image) in enumerate(_decode_each(chain([first], iterator), decode_one)):
        if image.shape != shape:
            raise UserError(
                f"{example.origin} is {_size(image.shape)} and {first.origin} is {_size(shape)}, but all images must "
                "have the same size: resize them, or train with `--data.image-size` for all of them."
            )
        images[index], labels[index] = image, example.label
    return images, labels


def _decode_each(
    examples: Iterator[Example], decode_one: Callable[[Example], np.ndarray]
) -> Iterator[tuple[Example, np.ndarray]]:
    """Decode in order, on all cores if that is faster."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(islice(examples, _CHUNK)):
            # Small images are faster on one thread: 60,000 of 32x32 take 2.8 s on one, 4.3 s on two.
            threaded = isinstance(chunk[0].encoded, Path) or len(chunk[0].encoded) > 16384
            yield from zip(chunk, (pool.map if threaded else map)(decode_one, chunk), strict=True)


def _decoder(
    image_size: int | None, resize: int | None, interpolation: Interpolation
) -> Callable[[Example], UInt8[np.ndarray, "height width 3"]]:
    """Make the function that decodes an example."""
    decode = partial(decode_rgb, image_size=image_size, resize=resize, interpolation=interpolation)
    return lambda example: decoding(example, decode)


def decoding(example: Example, decode: Callable[[bytes | Path], Result]) -> Result:
    """Return `decode` of an example's encoded image.

    Raises:
        UserError: it is not readable; the message names it.
    """
    try:
        return decode(example.encoded)
    except Image.DecompressionBombError as error:
        raise UserError(f"{example.origin} is too large ({error}): make it smaller.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{example.origin} is not a readable image ({error}): remove it, or replace it with an intact copy."
        ) from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _fitting(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a uint8 array, or raise a UserError if it exceeds this machine's memory."""
    needed, memory = np.prod(shape, dtype=float), float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if needed > 0.8 * memory:
        raise UserError(
            f"{shape[0]:,} images of {_size(shape[1:])} take {needed / 1e9:,.1f} GB decoded, and this machine has "
            f"{memory / 1e9:,.1f} GB: use fewer images, or train with a smaller `--data.image-size`."
        )
    return shape
