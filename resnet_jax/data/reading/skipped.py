"""What is in the place of an expected image or folder, and so is not used."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from resnet_jax.data.reading.formats import image_suffixes, remedy

OVERLAY = ".gradcam.png"
"""End of the names of pictures that `resnet-jax predict --explain` draws beside images; they are not images."""


def what_is(path: Path) -> str:
    """Return what there is in the place of an expected folder or image."""
    if path.is_symlink() and not path.exists():
        return "a broken link"
    if not path.exists():
        return "not there"
    return "a file" if path.is_file() else "a folder" if path.is_dir() else "not a regular file"


def describe_skipped(skipped: Iterable[Path]) -> str | None:
    """Return a sentence with the number of skipped files of each kind and an example of each; None without any."""
    kinds = defaultdict(list)
    for path in skipped:
        kinds[_kind(path)].append(path)
    if not kinds:
        return None
    parts = [f"{kind}: {len(paths)} (such as {paths[0]})" for kind, paths in kinds.items()]
    remedies = {kind: found for kind, paths in kinds.items() if (found := remedy(paths[0]))}
    advice = "".join(f"; {kind}: {found}" for kind, found in remedies.items())
    return f"skipped: {', '.join(parts)}{advice}"


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder that leads back to itself"
    if not path.is_file():
        return what_is(path).removeprefix("a ")
    if path.name.endswith(OVERLAY):
        return OVERLAY
    suffix = path.suffix.lower()
    return "image outside the class folders" if suffix in image_suffixes() else suffix or "file without a suffix"
