"""The handwritten digits of scikit-learn as a TFDS data set, which needs no download."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from resnet_jax.data.reading.images import encode_png

with tfds.core.registered.skip_registration():

    class Digits(tfds.core.GeneratorBasedBuilder):
        """1,797 digits, 8x8 grayscale: 1,437 for training, and a fixed fifth of each class, 360 in all, for testing.

        They are the test set of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).
        """

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> tfds.core.DatasetInfo:
            return tfds.core.DatasetInfo(
                builder=self,
                description="1,797 handwritten digits of 8x8 pixels, from scikit-learn.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(8, 8, 1)),
                        "label": tfds.features.ClassLabel(num_classes=10),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="https://archive.ics.uci.edu/dataset/80",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterable]:
            from sklearn.datasets import load_digits

            digits = load_digits()
            images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # stored as 0..16
            by_class = np.argsort(digits.target, kind="stable")
            test = by_class[::5]
            train = np.setdiff1d(by_class, test)
            return {
                name: self._generate_examples(images, digits.target, split)
                for name, split in {"train": train, "test": test}.items()
            }

        def _generate_examples(
            self, images: np.ndarray, labels: np.ndarray, split: np.ndarray
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            for index in split.tolist():
                yield index, {"image": encode_png(images[index]), "label": int(labels[index])}
