"""Folders of images, one folder per class: what is in them, without opening an image."""

import hashlib
from pathlib import Path

from resnet_jax.data.reading.images import Example
from resnet_jax.errors import UserError

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_LAYOUT = "expected FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE, or FOLDER/CLASS/IMAGE"


def list_folder(path: Path) -> tuple[tuple[str, ...], list[Example], list[Example]]:
    """List the class names in alphabetical order, and the train and test examples.

    Raises:
        UserError: the folder does not exist or has another layout, or a class has no images.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder: {_LAYOUT}. Correct the path.")
    train, test = (
        path / "train",
        next((path / name for name in ("test", "val", "validation") if _nested(path / name)), None),
    )
    if not _nested(train):
        return _fifth(_list_classes(path))
    if test is None:
        raise UserError(
            f"{train} exists, but {path / 'test'} does not: add it, or give {train} to test on a fifth of it."
        )
    train_classes, test_classes = _list_classes(train), _list_classes(test)
    if missing := train_classes.keys() ^ test_classes.keys():
        raise UserError(
            f"{train} and {test} must hold the same classes, and only one of them has {', '.join(sorted(missing))}: "
            "add the missing class folders, or remove these."
        )
    return tuple(train_classes), _examples(train_classes), _examples(test_classes)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _nested(folder: Path) -> bool:
    """Tell whether a folder holds class folders; one that holds images is itself a class, named "train" or "test"."""
    return any(path.is_dir() for path in _visible(folder))


def _list_classes(folder: Path) -> dict[str, list[Path]]:
    """List the images of each class, in order."""
    classes = {path.name: list_images(path) for path in _visible(folder) if path.is_dir()}
    if len(classes) < 2:
        raise UserError(f"{folder} has {len(classes)} class folders, expected at least 2: {_LAYOUT}. Add them.")
    if empty := [name for name, images in classes.items() if not images]:
        raise UserError(
            f"No images in the class folders {', '.join(empty)} of {folder}: add some, or remove the folders "
            f"(images end in {', '.join(sorted(_SUFFIXES))})."
        )
    return classes


def list_images(folder: Path) -> list[Path]:
    """List the visible images in a folder and below it, by their suffixes, in alphabetical order."""
    paths = []
    for path in _visible(folder):
        if path.is_dir():
            paths += list_images(path)
        elif path.suffix.lower() in _SUFFIXES:
            paths.append(path)
    return paths


def _examples(classes: dict[str, list[Path]]) -> list[Example]:
    return [Example(str(path), path, label) for label, paths in enumerate(classes.values()) for path in paths]


def _fifth(classes: dict[str, list[Path]]) -> tuple[tuple[str, ...], list[Example], list[Example]]:
    """Hold out every fifth image of each class, in the order of the hashes of their names: the same at every call."""
    if single := [name for name, paths in classes.items() if len(paths) < 2]:
        raise UserError(
            f"The classes {', '.join(single)} have 1 image, expected at least 2, to train on and to test: add some."
        )
    hashed = {
        name: sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
        for name, paths in classes.items()
    }
    test = {name: sorted(paths[::5]) for name, paths in hashed.items()}
    held = {path for paths in test.values() for path in paths}
    train = {name: [path for path in paths if path not in held] for name, paths in classes.items()}
    return tuple(classes), _examples(train), _examples(test)
