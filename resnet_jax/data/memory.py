"""A source decoded into memory, with a cache of the decoded images."""

import numpy as np

from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.data.reading.cache import cached, fingerprint, stamps
from resnet_jax.data.reading.images import Interpolation, decode
from resnet_jax.data.source import Source
from resnet_jax.errors import UserError


def load(
    source: Source, image_size: int | None, *, resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> Dataset:
    """Decode all images of a source, or read them from the cache.

    Args:
        source: the images.
        image_size: pixels; the shorter side is resized and the center square of this size kept. None for as stored.
        resize: pixels that the shorter side is resized to; by default `image_size`.
        interpolation: how images are resized.

    Raises:
        UserError: an image is unreadable, the images differ in size, or they do not fit in memory.
    """

    def decode_splits() -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for split, examples in splits.items():
            images, labels = decode(examples, image_size, resize, interpolation)
            first = next(iter(splits))
            if images.shape[1:] != arrays.setdefault(first, images).shape[1:]:
                raise UserError(
                    f"the images of {source.name} have one size (height, width) in {first} and another in {split}: "
                    f"{arrays[first].shape[1:3]} and {images.shape[1:3]}. Resize them, or train with "
                    "`--data.image-size` for all of them."
                )
            arrays |= {split: images, f"{split}_labels": labels}
        return arrays

    named = {"train": source.train, "test": source.test, "val": source.val or ()}
    splits = {split: examples for split, examples in named.items() if len(examples)}
    sizes = [image_size, resize, interpolation]
    key = fingerprint(source.class_names, source.layout, sizes, stamps(source.files))
    arrays = cached(source.name, key, decode_splits)
    read = {name: Split(arrays[name], arrays[f"{name}_labels"]) for name in splits}
    train = read.get("train", Split(*(values[:0] for values in read["test"])))
    return Dataset(
        name=source.name,
        class_names=source.class_names,
        train=train,
        test=read["test"],
        val=read.get("val"),
        key=key,
        contents=source.contents,
        test_names=tuple(example.origin for example in source.test) if source.layout else (),
        remarks=source.remarks,
    )
