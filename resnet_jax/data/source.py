"""Image classification data sets in memory: from TFDS folders and from folders of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from resnet_jax.data.reading.cache import cached
from resnet_jax.data.reading.folder import list_folder
from resnet_jax.data.reading.images import Examples, decode
from resnet_jax.data.reading.prepared import PreparedSplit, default_data_dir, open_builder
from resnet_jax.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


class Split(NamedTuple):
    """Decoded images and the class of each."""

    images: UInt8[np.ndarray, "n height width 3"]
    labels: Int32[np.ndarray, " n"]


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; its arrays are read-only."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split


def load_tfds(name: str, data_dir: Path | None, image_size: int | None, *, resize: int | None = None) -> Dataset:
    """Loads a TFDS image classification set without TensorFlow.

    cifar10, cifar100, mnist, fashion_mnist and digits are downloaded and prepared on first use; any other is read from
    the folder in which TFDS prepared it. The test split is "test", or "validation" where that is missing or unlabelled.

    Args:
        name: TFDS's name, "name/config" where the set has configurations.
        data_dir: of TFDS; None for $TFDS_DATA_DIR or ~/tensorflow_datasets.
        image_size: pixels; the shorter side is resized and the centre square of this side kept. None for as stored.
        resize: pixels that the shorter side is resized to; None for `image_size`.

    Raises:
        UserError: no such data set, it cannot be downloaded, is no image classification, or does not fit in memory.
    """
    builder = open_builder(name, (data_dir or default_data_dir()).expanduser().absolute())
    keys = _image_and_label(builder.info)
    train, test = (PreparedSplit(builder, split, *keys) for split in ("train", _test_split(builder, keys)))
    files = [path for path in Path(builder.data_dir).iterdir() if path.is_file()]
    return _load(name, tuple(builder.info.features[keys[1]].names), files, train, test, (image_size, resize))


def load_folder(path: Path, image_size: int | None, *, resize: int | None = None) -> Dataset:
    """Loads PATH/train/<class>/<image> and PATH/test/<class>/<image>, or PATH/<class>/<image>.

    "val" and "validation" are taken for "test". In the second form a fixed fifth of each class is the test split.
    Classes are in alphabetical order.

    Args:
        path: of the folder.
        image_size: pixels; the shorter side is resized and the centre square of this side kept. None for as stored.
        resize: pixels that the shorter side is resized to; None for `image_size`.

    Raises:
        UserError: the folder is not laid out like that, an image is unreadable, or they do not fit in memory.
    """
    path = path.expanduser().absolute()
    class_names, train, test = list_folder(path)
    files = [Path(example.origin) for example in (*train, *test)]
    return _load(path.name, class_names, files, train, test, (image_size, resize))


def _load(
    name: str,
    class_names: tuple[str, ...],
    files: list[Path],
    train: Examples,
    test: Examples,
    size: tuple[int | None, int | None],
) -> Dataset:
    def decode_splits() -> dict[str, np.ndarray]:
        splits = {"train": decode(train, *size), "test": decode(test, *size)}
        sizes = {split: images.shape[1:3] for split, (images, _) in splits.items()}
        if sizes["train"] != sizes["test"]:
            raise UserError(
                f"The images of {name} have one size, height and width, in train and another in test: {sizes}. "
                "Set `--data.image-size` to resize and crop them to it."
            )
        return {
            f"{split}_{part}": array
            for split, arrays in splits.items()
            for part, array in zip(("images", "labels"), arrays, strict=True)
        }

    arrays = cached(name, files, size, decode_splits)
    train_split, test_split = (
        Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in ("train", "test")
    )
    return Dataset(name, class_names, train_split, test_split)


def _image_and_label(info: "tfds.core.DatasetInfo") -> tuple[str, str]:
    """Returns the names of the image and label features: the supervised pair, else the only ones of their types."""
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    named = [[key for key, feature in info.features.items() if type(feature) is kind] for kind in kinds]
    pair: tuple[str, ...] = tuple(info.supervised_keys or ())
    if len(pair) == 2 and all(key in keys for key, keys in zip(pair, named, strict=True)):
        return pair[0], pair[1]
    if [len(keys) for keys in named] == [1, 1]:
        return named[0][0], named[1][0]
    raise UserError(
        f"{info.full_name} is no image classification: wanted are one Image and one ClassLabel feature, "
        f"got {', '.join(f'{key} ({type(feature).__name__})' for key, feature in info.features.items())}. "
        "Choose another data set, or lay its images out in folders."
    )


def _test_split(builder: "tfds.core.DatasetBuilder", keys: tuple[str, str]) -> str:
    """Returns "test", or "validation" where there is no test split or its labels are withheld (-1, as in ImageNet)."""
    splits = builder.info.splits
    for split in ("test", "validation"):
        if "train" in splits and split in splits and next(iter(PreparedSplit(builder, split, *keys))).label >= 0:
            return split
    raise UserError(
        f"{builder.info.full_name} has the splits {', '.join(splits)}: wanted are train, and a labelled test or "
        "validation. Choose another data set, or prepare it whole."
    )
