"""CIFAR-10 and CIFAR-100, prepared without TensorFlow in the folders of TFDS's own builders."""

import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import cifar as official  # here, so that TFDS registers its own

from resnet_jax.data.builders.download import Archive, fetch
from resnet_jax.data.reading.images import encode_png

_PIXELS = 3 * 32 * 32

with tfds.core.registered.skip_registration():

    class Cifar10(official.Cifar10):
        """60,000 images of 10 classes, 10,000 of them for testing (Krizhevsky 2009).

        Reads the binary version: a record is one byte per label, then the red, green and blue planes of 32x32.
        """

        ARCHIVE = Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
        )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterable]:
            layout = self._cifar_info
            archive = fetch(self.ARCHIVE, Path(self.data_dir_root) / "downloads")
            names = [*layout.label_files, *layout.train_files, *layout.test_files]
            members = _read_members(archive, [layout.prefix + name for name in names])
            for key, name in zip(layout.label_keys, layout.label_files, strict=True):
                self.info.features[key].names = members[layout.prefix + name].decode().split()
            return {
                split: self._generate_examples(f"{split}_", b"".join(members[layout.prefix + file] for file in files))
                for split, files in {"train": layout.train_files, "test": layout.test_files}.items()
            }

        def _generate_examples(self, prefix: str, records: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
            label_keys = self._cifar_info.label_keys
            rows = np.frombuffer(records, np.uint8).reshape(-1, len(label_keys) + _PIXELS)
            for index, row in enumerate(rows):
                image = row[-_PIXELS:].reshape(3, 32, 32).transpose(1, 2, 0)
                labels = {key: int(label) for key, label in zip(label_keys, row[:-_PIXELS], strict=True)}
                yield index, {"id": f"{prefix}{index:05d}", "image": encode_png(image), **labels}

    class Cifar100(Cifar10, official.Cifar100):
        """60,000 images of 100 classes in 20 superclasses, 10,000 of them for testing (Krizhevsky 2009)."""

        ARCHIVE = Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            ("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",),
        )


def _read_members(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read the named files in one pass over the archive."""
    with tarfile.open(archive) as tar:
        members = ((member.name, tar.extractfile(member)) for member in tar if member.name in names)
        return {name: file.read() for name, file in members if file}
