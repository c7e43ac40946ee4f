"""ImageNet's official archives (ILSVRC 2012), read in place: images by index, nothing is unpacked."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int32

from resnet_jax.data.reading.images import Example
from resnet_jax.data.source import Source, open_folder
from resnet_jax.errors import UserError

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
_TRUTH, _CLASSES = (
    f"ILSVRC2012_devkit_t12/data/{name}" for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat")
)


@dataclass(frozen=True)
class ArchivedFiles:
    """Examples that are files in a tar archive, perhaps in archives inside it."""

    archive: str
    names: tuple[str, ...]
    offsets: Int[np.ndarray, " n"]
    """First byte of each file in the archive."""
    sizes: Int[np.ndarray, " n"]
    """Bytes of each file."""
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Example:
        with open(self.archive, "rb") as file:
            file.seek(self.offsets[index])
            content = file.read(self.sizes[index])
        return Example(f"{self.archive}: {self.names[index]}", content, int(self.labels[index]))


def open_imagenet(folder: Path) -> Source:
    """Open ImageNet: the two archives of images and the development kit, or train and val with a folder for each class.

    Classes are in the alphabetical order of their WordNet ids, as in torchvision and TFDS.

    Raises:
        UserError: an archive is missing or damaged, or the folders have another layout.
    """
    folder = folder.expanduser().absolute()
    if not (folder / TRAIN).exists() and (folder / "train").is_dir():
        return open_folder(folder)
    if missing := [name for name in (TRAIN, VAL, DEVKIT) if not (folder / name).exists()]:
        raise UserError(
            f"{folder} does not hold {', '.join(missing)}: download them from https://image-net.org, or give a folder "
            "with train/CLASS/IMAGE and val/CLASS/IMAGE"
        )
    try:
        names, truth = _read_devkit(folder / DEVKIT)
        train, val = _list_train(folder / TRAIN, names), _list_val(folder / VAL, truth)
    except (tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"an archive in {folder} is damaged ({error}): download it again") from error
    files = tuple(folder / name for name in (TRAIN, VAL, DEVKIT))
    contents = {path.name: path.stat().st_size for path in files}
    return Source("imagenet2012", names, train, val, files, contents=contents)


def _read_devkit(path: Path) -> tuple[tuple[str, ...], list[int]]:
    """Return the WordNet ids in alphabetical order, and the class of each validation image."""
    from scipy.io import loadmat

    with tarfile.open(path) as archive:
        truth, classes = (archive.extractfile(name).read() for name in (_TRUTH, _CLASSES))  # type: ignore[union-attr]
    synsets = loadmat(io.BytesIO(classes), squeeze_me=True)["synsets"]
    ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if row["num_children"] == 0}
    names = tuple(sorted(ids.values()))
    number = {name: label for label, name in enumerate(names)}
    return names, [number[ids[int(line)]] for line in truth.split()]


def _list_train(path: Path, names: tuple[str, ...]) -> ArchivedFiles:
    """List the images in the archives of the classes, which are in the archive."""
    found = []
    with tarfile.open(path) as outer:
        for label, name in enumerate(names):
            member = outer.getmember(f"{name}.tar")
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                found += [(each.name, member.offset_data + each.offset_data, each.size, label) for each in inner]
    return _listed(path, found)


def _list_val(path: Path, truth: list[int]) -> ArchivedFiles:
    with tarfile.open(path) as archive:
        members = sorted((each for each in archive if each.isfile()), key=lambda each: each.name)
    found = [(each.name, each.offset_data, each.size, label) for each, label in zip(members, truth, strict=True)]
    return _listed(path, found)


def _listed(path: Path, found: list[tuple[str, int, int, int]]) -> ArchivedFiles:
    names, offsets, sizes, labels = zip(*found, strict=True)
    return ArchivedFiles(str(path), names, np.array(offsets), np.array(sizes), np.array(labels, np.int32))
