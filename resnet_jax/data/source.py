"""What images there are: a prepared TFDS set or a folder of images, opened without decoding an image."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int32

from resnet_jax.data.reading.cache import fingerprint
from resnet_jax.data.reading.folder import Classes, list_folder
from resnet_jax.data.reading.images import Example, Examples
from resnet_jax.data.reading.skipped import describe_skipped, what_is
from resnet_jax.data.reading.tfds_folders import default_data_dir
from resnet_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclass(frozen=True)
class Source:
    """A labeled data set with its splits, still encoded."""

    name: str
    class_names: tuple[str, ...]
    train: Examples
    """No images in a folder that has a test split only."""
    test: Examples
    files: tuple[Path, ...]
    """Files that the images are read from."""
    val: Examples | None = None
    """Images held out to choose the best checkpoint, where the data set has a split of its own for that."""
    layout: Any = None
    """What else the splits depend on, in JSON's types: the class of each file of a folder by split."""
    contents: Any = None
    """What identifies the images wherever they are stored, in JSON's types: for a folder, by split and class the number
    of images and a hash of their names and sizes."""
    remarks: tuple[str, ...] = ()
    """Notes about the images for the user."""


def open_tfds(name: str, data_dir: Path | None = None) -> Source:
    """Open a TFDS image classification set without TensorFlow.

    cifar10, cifar100, mnist, fashion_mnist and digits are downloaded and prepared on first use; any other set is read
    from the folder in which TFDS prepared it. The test split is "test", or "validation" if "test" is missing or
    unlabeled.

    Args:
        name: TFDS's name, "name/config" if the set has configurations.
        data_dir: folder of TFDS; by default $TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
        UserError: there is no such data set, it can't be downloaded, or it is not an image classification set.
    """
    from resnet_jax.data.reading.prepared import PreparedSplit, open_builder  # loads TFDS

    folder = (data_dir or default_data_dir()).expanduser().absolute()
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(
            f"{folder} is {what_is(folder)}, expected the folder of TFDS: correct --data.dir or TFDS_DATA_DIR"
        )
    builder = open_builder(name, folder)
    image_key, label_key = _image_and_label(builder.info)
    splits = [
        PreparedSplit(builder, split, image_key, label_key)
        for split in ("train", _test_split(builder, image_key, label_key))
    ]
    files = tuple(path for path in Path(builder.data_dir).iterdir() if path.is_file())
    names = tuple(builder.info.features[label_key].names)
    return Source(name, names, splits[0], splits[1], files, contents=builder.info.full_name)


def open_folder(path: Path, *, hold_out: bool = True) -> Source:
    """Open PATH/train/<class>/<image> and PATH/test/<class>/<image>, or PATH/<class>/<image>.

    In the first form, PATH/val is the validation split, or the test split if there is no other. In the second form, a
    fixed fifth of each class is the test split. Classes are in alphabetical order.

    Args:
        path: the folder.
        hold_out: in the second form; otherwise all images are the test split, as for a network trained on others.

    Raises:
        UserError: the folder does not exist, has another layout or could be read in two ways.
    """
    path = path.expanduser().absolute()
    listing = list_folder(path, hold_out=hold_out)
    examples = {split: _examples(classes) for split, classes in listing.splits.items()}
    train, val, test = examples.get("train", _examples({})), examples.get("val"), examples["test"]
    return Source(
        name=path.name,
        class_names=listing.class_names,
        train=train,
        test=test,
        val=val,
        files=tuple(Path(path) for each in examples.values() for path in each.paths),
        layout={split: each.labels.tolist() for split, each in examples.items()},
        contents={split: _contents(classes) for split, classes in listing.splits.items()},
        remarks=tuple(filter(None, (describe_skipped(listing.skipped), listing.division))),
    )


@dataclass(frozen=True)
class ListedFiles:
    """Examples that are files; a million of them take 110 MB, a fifth of a list of `Example`."""

    paths: tuple[str, ...]
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Example:
        path = self.paths[index]
        return Example(path, Path(path), int(self.labels[index]))


def _examples(classes: Classes) -> ListedFiles:
    counts = [len(paths) for paths in classes.values()]
    paths = tuple(str(path) for paths in classes.values() for path in paths)
    return ListedFiles(paths, np.repeat(np.arange(len(counts), dtype=np.int32), counts))


def _contents(classes: Classes) -> dict[str, str]:
    return {
        name: f"{len(paths)} images, {fingerprint([(path.name, path.stat().st_size) for path in paths])[:8]}"
        for name, paths in classes.items()
    }


def _image_and_label(info: "tfds.core.DatasetInfo") -> tuple[str, str]:
    """Return the names of the image and label features: the supervised pair, or else the only ones of their types."""
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    named = [[key for key, feature in info.features.items() if type(feature) is kind] for kind in kinds]
    pair: tuple[str, ...] = tuple(info.supervised_keys or ())
    if len(pair) == 2 and all(key in keys for key, keys in zip(pair, named, strict=True)):
        return pair[0], pair[1]
    if [len(keys) for keys in named] == [1, 1]:
        return named[0][0], named[1][0]
    raise UserError(
        f"{info.full_name} is not an image classification set: expected one Image and one ClassLabel feature, "
        f"got {', '.join(f'{key} ({type(feature).__name__})' for key, feature in info.features.items())}. "
        "Choose another data set, or lay its images out in folders."
    )


def _test_split(builder: "tfds.core.DatasetBuilder", image_key: str, label_key: str) -> str:
    """Return "test", or "validation" if there is no test split or its labels are withheld (-1, as in ImageNet)."""
    from resnet_jax.data.reading.prepared import PreparedSplit

    splits = builder.info.splits
    for split in ("test", "validation"):
        if "train" in splits and split in splits:
            first = next(iter(PreparedSplit(builder, split, image_key, label_key)))
            if first.label >= 0:
                return split
    raise UserError(
        f"{builder.info.full_name} has the splits {', '.join(splits)}: expected train, and a labeled test or "
        "validation split. Choose another data set, or prepare all of it."
    )
