"""What a person should know about a data set before a network is trained on it."""

from collections.abc import Iterator

import numpy as np

from resnet_jax.data.dataset import Dataset

LISTED = 20  # classes that are listed one by one
UNBALANCED = 10  # times the images of the smallest class


def describe(dataset: Dataset) -> Iterator[str]:
    """Yield sentences with the images of each split and class, what is held out, and a warning of rare classes."""
    yield from dataset.remarks
    splits = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    images = ", ".join(f"{split.num_images:,} {name}" for name, split in splits.items() if split is not None)
    if dataset.train.labels is None:  # in the records alone, which are not read before they are needed
        yield f"{images} images of {dataset.name}, in {len(dataset.class_names)} classes"
        return
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.class_names))
    fewest, most = int(counts.argmin()), int(counts.argmax())
    rare, common = dataset.class_names[fewest], dataset.class_names[most]
    if len(counts) <= LISTED:
        classes = ", ".join(f"{name} {count:,}" for name, count in zip(dataset.class_names, counts, strict=True))
    else:
        classes = f"{len(counts)}, from {rare} with {counts[fewest]:,} to {common} with {counts[most]:,}"
    yield f"{images} images of {dataset.name}; training images by class: {classes}"
    if counts[most] > UNBALANCED * counts[fewest]:
        yield (
            f"warning: the classes are unbalanced: {common} has {counts[most]:,} training images and {rare} "
            f"{counts[fewest]:,}. The accuracy then says little about the rare classes: add images of them, or leave "
            "out some of the others, and look at the precision and recall of each class in the end (resnet-jax "
            "evaluate)"
        )
