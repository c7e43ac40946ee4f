"""The images that the page offers."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from resnet_jax.errors import UsageError, UserError

TYPES = {
    **dict.fromkeys((".jpg", ".jpeg"), "image/jpeg"),
    **{f".{name}": f"image/{name}" for name in ("png", "webp", "gif", "avif")},
}
"""Images that every browser shows, by their suffixes."""
MOST = 12


class Examples(NamedTuple):
    """Images by the names of their files, and whom the page thanks for them."""

    images: dict[str, bytes]
    credit: str = ""


def read_examples(folder: Path | None) -> Examples:
    """Read the first 12 images of a folder, in the order of their names; by default, scikit-learn's two photographs.

    Raises:
        UsageError: there is none.
        UserError: the folder can't be read.
    """
    if folder is None:
        package = find_spec("sklearn")  # importing it takes a second
        assert package is not None and package.origin is not None
        photographs = Path(package.origin).parent / "datasets" / "images"
        images = {name: (photographs / name).read_bytes() for name in ("china.jpg", "flower.jpg")}
        return Examples(images, "Photographs: danielbuechele and vultilion, CC BY 2.0")
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in TYPES)
        images = {path.name: path.read_bytes() for path in paths[:MOST]}
    except OSError as error:
        raise UserError(f"--examples: can't read {folder} ({error.strerror}): give a folder of images") from error
    if not images:
        raise UsageError(f"--examples: {folder} has no image, expected {', '.join(TYPES)}: give another folder")
    return Examples(images)
