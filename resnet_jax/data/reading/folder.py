"""Folders of images, one folder per class: what is in them, without opening an image."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resnet_jax.data.reading.formats import image_suffixes
from resnet_jax.data.reading.skipped import OVERLAY, describe_skipped, what_is
from resnet_jax.data.split import hold_out_fifth
from resnet_jax.errors import UserError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the folders of a split, in any case."""
_LAYOUT = "expected FOLDER/train/CLASS/IMAGE and FOLDER/test/CLASS/IMAGE, or FOLDER/CLASS/IMAGE"

Classes = dict[str, list[Path]]


@dataclass(frozen=True)
class Listing:
    """The images of a folder."""

    class_names: tuple[str, ...]
    """In alphabetical order."""
    splits: dict[str, Classes]
    """By "train", "val" and "test", as far as there are any: the images of each class, in alphabetical order."""
    skipped: tuple[Path, ...]
    """What is not used: other files, and folders that lead back to themselves."""
    division: str | None = None
    """A sentence on where the test split comes from, if there is no folder for it."""


@contextmanager
def _listing() -> Iterator[None]:
    """Turn what forbids to look into a folder inside into a `UserError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"can't look into {error.filename} ({error.strerror}): allow reading it, or give another folder"
        ) from error


@_listing()
def list_folder(path: Path, *, hold_out: bool = True) -> Listing:
    """List the images of each split and class.

    Args:
        path: holds PATH/train/CLASS/IMAGE and the like, with the names of `SPLITS`, or PATH/CLASS/IMAGE.
        hold_out: divide class folders alone: a fixed fifth of each class is "test", the rest "train". Otherwise all of
            them are "test".

    Raises:
        UserError: the folder does not exist, has another layout or could be read in two ways; a class has no images;
            or one image is listed twice.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a folder ({what_is(path)}): {_LAYOUT}. Correct the path.")
    folders = _split_folders(path)
    skipped: list[Path] = []
    division = None
    if folders:
        splits = {split: _list_classes(folder, skipped) for split, folder in folders.items()}
        if "test" not in splits and "val" in splits:
            splits["test"] = splits.pop("val")
            division = f"{folders['val']} is the test split, as there is no other"
        _check_same_classes(splits, folders)
        if "test" not in splits:
            raise UserError(
                f"{folders['train']} exists, but {path / 'test'} does not: add it, or give {folders['train']} to test "
                "on a fifth of it."
            )
    else:
        classes = _list_classes(path, skipped)
        splits = {"test": classes}
        if hold_out:
            splits = hold_out_fifth(classes)
            division = "a fixed fifth of each class is held out as the test split, as there is no folder for it"
    _check_unique(image for classes in splits.values() for images in classes.values() for image in images)
    return Listing(tuple(splits["test"]), splits, tuple(skipped), division)


@_listing()
def has_class_folders(path: Path) -> bool:
    """Tell whether a folder holds images in class folders, or has folders of splits that do."""
    if not path.is_dir():
        return False
    folders = [folder for folder in _visible(path) if folder.is_dir()]
    named = [folder for folder in folders if any(folder.name.lower() in names for names in SPLITS.values())]
    classes = [*folders, *(each for folder in named for each in _visible(folder) if each.is_dir())]
    return any(_is_image(file) for folder in classes for file in _visible(folder))


@_listing()
def list_images(folder: Path, skipped: list[Path], above: frozenset[Path] = frozenset()) -> list[Path]:
    """List the visible images in a folder and below it, in alphabetical order.

    Args:
        folder: where to look.
        skipped: files that are not images are added to it.
        above: resolved paths of the folders around this one, up to the root. A link that leads to one of them is
            skipped.
    """
    real, images = folder.resolve(), []
    if real in above:
        skipped.append(folder)
        return []
    for path in _visible(folder):
        if path.is_dir():
            images += list_images(path, skipped, above | {real, *real.parents})
        elif _is_image(path):
            images.append(path)
        else:
            skipped.append(path)
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in image_suffixes() and not path.name.endswith(OVERLAY) and path.is_file()


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _split_folders(path: Path) -> dict[str, Path]:
    """Return the folder of each split; empty if `path` holds class folders alone.

    A folder with the name of a split that holds images itself is a class, for example of vehicles: "plane", "train".
    """
    folders = [folder for folder in _visible(path) if folder.is_dir()]
    named = {folder: split for folder in folders for split, names in SPLITS.items() if folder.name.lower() in names}
    nested = {folder: split for folder, split in named.items() if any(each.is_dir() for each in _visible(folder))}
    if not nested:
        if named and len(named) == len(folders) > 1:
            raise UserError(
                f"{path} holds {_names(named)} with images, but no class folders in them: {_LAYOUT}. Sort the images "
                "into class folders."
            )
        return {}
    others = [folder for folder in folders if folder not in nested and list_images(folder, [])]
    twice = [folder for folder, split in nested.items() if list(nested.values()).count(split) > 1]
    if others or twice:
        raise UserError(
            f"{path} can be read in two ways: it holds {_names(nested)}, which are names of splits, and images in "
            f"{_names(others)} beside them. Keep the splits or the classes there, and move the others away."
            if others
            else f"{path} can be read in two ways: {_names(twice)} are names of the same split. Merge or rename them."
        )
    return {split: folder for folder, split in nested.items()}


def _names(folders: Iterable[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def _list_classes(folder: Path, skipped: list[Path]) -> Classes:
    """List the images of each class, in order."""
    classes: Classes = {}
    real = folder.resolve()
    for path in _visible(folder):
        if path.is_dir():
            classes[path.name] = list_images(path, skipped, frozenset({real, *real.parents}))
        else:
            skipped.append(path)
    if len(classes) < 2:
        remark = describe_skipped(skipped)
        raise UserError(
            f"{folder} has {len(classes)} class folders, but at least 2 are needed: {_LAYOUT}. Add some"
            f"{f' ({remark})' if remark else ''}."
        )
    if empty := [name for name, images in classes.items() if not images]:
        reason = describe_skipped(path for path in skipped if folder / empty[0] in path.parents)
        raise UserError(
            f"No images in the class folders {', '.join(empty)} of {folder}: add some, or remove the folders "
            f"({reason or 'images end in ' + ', '.join(sorted(image_suffixes()))})."
        )
    return classes


def _check_same_classes(splits: dict[str, Classes], folders: dict[str, Path]) -> None:
    first, *others = splits.values()
    for classes in others:
        if missing := first.keys() ^ classes.keys():
            raise UserError(
                f"{' and '.join(map(str, folders.values()))} must hold the same classes, but only one of them has "
                f"{', '.join(sorted(missing))}: add the missing class folders, or remove these."
            )


def _check_unique(images: Iterable[Path]) -> None:
    """Refuse an image that links list twice: it could be in two classes, or in training and test."""
    seen: dict[Path, Path] = {}
    for image in images:
        other = seen.setdefault(image.resolve(), image)
        if other is not image:
            raise UserError(f"{other} and {image} are the same file, by a link: remove one of them.")
