"""Formats of image files: which of them this installation reads, and what to do about the others."""

from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats whose suffixes make a file an image."""
HEIC = "convert them to JPEG, or pip install pillow-heif"
REMEDIES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), HEIC),
    **dict.fromkeys((".avif", ".avifs"), "pip install --upgrade pillow"),
}
"""By suffix, what makes an image readable that Pillow alone does not read, or did not before 11.3."""


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of images, in lower case, among them those of `FORMATS` that this installation reads.

    HEIC, the format of many telephones, is among them if the package pillow-heif is installed.
    """
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in FORMATS and name in Image.OPEN)


def remedy(path: Path) -> str | None:
    """Return what to do about an image in a format that this installation does not read; None if nothing is known."""
    suffix = path.suffix.lower()
    return None if suffix in image_suffixes() else REMEDIES.get(suffix)
