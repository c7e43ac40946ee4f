"""MNIST and Fashion-MNIST, prepared without TensorFlow in the folders of TFDS's own builders."""

import gzip
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.image_classification import mnist as official  # here, so that TFDS registers its own

from resnet_jax.data.builders.download import Archive, fetch
from resnet_jax.data.reading.images import encode_png


def _archives(base: str, **sha256: tuple[str, ...]) -> dict[str, tuple[Archive, Archive]]:
    """Return the archives of images and labels of each split."""
    return {
        split: (
            Archive(f"{base}{stem}-images-idx3-ubyte.gz", sha256[f"{split}_images"]),
            Archive(f"{base}{stem}-labels-idx1-ubyte.gz", sha256[f"{split}_labels"]),
        )
        for split, stem in {"train": "train", "test": "t10k"}.items()
    }


with tfds.core.registered.skip_registration():

    class MNIST(official.MNIST):
        """70,000 handwritten digits of 28x28, 10,000 of them for testing (LeCun et al. 1998).

        Its four files have the names of those of Fashion-MNIST, so each set has a folder of its own.
        """

        ARCHIVES = _archives(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            train_images=("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",),
            train_labels=("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",),
            test_images=("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",),
            test_labels=("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",),
        )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterable]:
            folder = Path(self.data_dir_root) / "downloads" / self.name
            paths = {split: [fetch(archive, folder) for archive in pair] for split, pair in self.ARCHIVES.items()}
            return {split: self._generate_examples(*pair) for split, pair in paths.items()}

        def _generate_examples(self, images: Path, labels: Path) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, (image, label) in enumerate(zip(_read_idx(images), _read_idx(labels), strict=True)):
                yield index, {"image": encode_png(image), "label": int(label)}

    class FashionMNIST(MNIST, official.FashionMNIST):
        """70,000 pictures of clothes of 28x28, 10,000 of them for testing (Xiao et al. 2017, arXiv:1708.07747)."""

        # Second value: the same files with another gzip header, from Debian's package dataset-fashion-mnist.
        ARCHIVES = _archives(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            train_images=(
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            ),
            train_labels=(
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            ),
            test_images=(
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            ),
            test_labels=(
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            ),
        )


def _read_idx(path: Path) -> UInt8[np.ndarray, "n ..."]:
    """Read an IDX file of bytes: two zeros, 8 for "unsigned byte", the number of axes, each length as a uint32."""
    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
