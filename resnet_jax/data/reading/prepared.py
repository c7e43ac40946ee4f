"""TFDS folders: prepared by this project's own builders, and read without TensorFlow."""

import contextlib
import io
import re
import resource
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from resnet_jax.data.reading.formats import image_suffixes
from resnet_jax.data.reading.images import Example
from resnet_jax.data.reading.tfds_folders import OWN, prepared_folders
from resnet_jax.errors import UserError

_CHUNK = 1024  # records read at once
_OTHER_FILES = 2048  # open files beside the shards of a split
_OF_A_SHARD = 8  # records of a shard, on average, from which on reading them at once is faster; each shard has a thread


def open_builder(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Open the newest prepared version of a data set, after preparing it if it is one of ours.

    Args:
        name: TFDS's, with the configuration where there are several: "cifar10", "cifar10_corrupted/fog_3".
        data_dir: holds name[/config]/version folders.

    Raises:
        UserError: there is no such data set, or it can't be prepared there.
    """
    if not _versions(name, data_dir):
        if name not in OWN:
            found = sorted({path.parent.relative_to(data_dir).as_posix() for path in prepared_folders(data_dir)})
            raise UserError(
                f"There is no data set {name!r}. Known data sets: {', '.join(OWN)}; prepared in {data_dir}: "
                f"{', '.join(found) or 'none'}. To prepare any other image classification set of TFDS, which needs "
                f"TensorFlow: `tfds build {name} --data_dir={data_dir} --file_format=array_record`."
            )
        _check_place(name, data_dir)
        _prepare(name, data_dir)
    folders = _versions(name, data_dir)
    if len({folder.parent for folder in folders}) > 1:
        configs = ", ".join(sorted({folder.parent.relative_to(data_dir).as_posix() for folder in folders}))
        raise UserError(f"{name!r} is prepared in several configurations: name one of {configs}.")
    return tfds.builder_from_directory(max(folders, key=_version))


def _check_place(name: str, data_dir: Path) -> None:
    """Refuse to prepare a data set among a person's photographs, who means these."""
    found = (path for depth in ("*", "*/*") for path in data_dir.glob(depth) if path.suffix.lower() in image_suffixes())
    if image := next(found, None):
        raise UserError(
            f"{data_dir} has images, such as {image.relative_to(data_dir)}, so {name} is not prepared in it: name "
            "another folder with --data.dir, or to use these images, put those of each class into a folder of its own"
        )


def _versions(name: str, data_dir: Path) -> list[Path]:
    return prepared_folders(data_dir / name) if re.fullmatch(r"\w+(/[\w.+-]+)*", name) else []


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in folder.name.split("."))


def _prepare(name: str, data_dir: Path) -> None:
    """Run one of our builders; TFDS writes to a folder named incomplete and renames it at the end."""
    from resnet_jax.data.builders import cifar, digits, mnist

    builders: list[type[tfds.core.GeneratorBasedBuilder]] = [
        cifar.Cifar10,
        cifar.Cifar100,
        digits.Digits,
        mnist.FashionMNIST,
        mnist.MNIST,
    ]
    builder_class = dict(zip(OWN, builders, strict=True))[name]
    print(f"Preparing {name} in {data_dir}; this happens once.", file=sys.stderr)
    tfds.disable_progress_bar()
    try:
        builder = builder_class(data_dir=data_dir, file_format="array_record")
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces sizes that it does not know
            builder.download_and_prepare()
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as a RuntimeError
        if not _versions(name, data_dir):  # else another process prepared it meanwhile
            raise UserError(
                f"can't prepare {name} in {data_dir} ({str(error).splitlines()[0]}): free space or allow writing "
                "there, or name another folder with `--data.dir`."
            ) from error


@dataclass(frozen=True)
class PreparedSplit:
    """Examples of one split, in stored order: images encoded as stored, labels decoded."""

    builder: tfds.core.DatasetBuilder
    split: str
    image_key: str
    label_key: str

    def __len__(self) -> int:
        return self.builder.info.splits[self.split].num_examples

    def __iter__(self) -> Iterator[Example]:
        for index, record in enumerate(self._every_record()):
            yield self._example(index, record)

    def __getitem__(self, index: int) -> Example:
        """Return one example; indices are from 0 to the number of examples - 1.

        Raises:
            UserError: the records can't be read, or their format has no index.
        """
        with self._naming_damage(f"{self.split} image {index} of "):
            record = self._source[index]
        return self._example(index, record)

    def together(self, indices: Sequence[int]) -> dict[int, Example]:
        """Return examples by their index, or none; see `ReadTogether`.

        For each call, array_record goes through the places of all records of a shard, which takes 0.1 ms for 50,000.
        """
        if len(indices) < _OF_A_SHARD * self._shards:
            return {}
        try:
            records = self._source.__getitems__(indices)
        except RuntimeError:  # reading one by one shows which
            return {}
        return {index: self._example(index, record) for index, record in zip(indices, records, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not key.startswith("_")}  # without open files

    def _example(self, index: int, record: bytes) -> Example:
        features = tf_example_pb2.Example.FromString(record).features.feature  # of which TFDS makes slow arrays
        (image,), (label,) = features[self.image_key].bytes_list.value, features[self.label_key].int64_list.value
        return Example(f"{self.builder.info.full_name} {self.split} image {index}", image, label)

    @cached_property
    def _shards(self) -> int:
        return len(self.builder.info.splits[self.split].filepaths)

    @cached_property
    def _source(self) -> Any:
        if self.builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(
                f"{self.builder.data_dir} is prepared as {self.builder.info.file_format.value}, which can only be read "
                "from its beginning: prepare it with --file_format=array_record to stream it."
            )
        _allow_open_files(self._shards)
        return self.builder.as_data_source(self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

    def _every_record(self) -> Iterator[bytes]:
        if self.builder.info.file_format == tfds.core.FileFormat.TFRECORD:
            for path in self.builder.info.splits[self.split].filepaths:
                yield from read_tfrecord(Path(path))
            return
        for start, end in pairwise((0, *range(1, len(self), _CHUNK), len(self))):  # the first alone, for its size
            with self._naming_damage():
                records = self._source.__getitems__(range(start, end))
            yield from records

    @contextmanager
    def _naming_damage(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # array_record's, for a file that is missing, cut short or altered
            raise UserError(
                f"{what}{self.builder.data_dir} is damaged ({error}): delete it and prepare or copy it again."
            ) from error


def _allow_open_files(count: int) -> None:
    """Raise this process's limit of open files, often 1,024: shards stay open, and ImageNet has 1,024 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """Read a TFRecord file: each record is its length as a uint64, a checksum, the bytes, a checksum.

    Raises:
        UserError: the file ends within a record. The checksums are not verified.
    """
    with path.open("rb") as file:
        while header := file.read(12):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
            record, checksum = file.read(length), file.read(4)
            if len(checksum) != 4:
                raise UserError(f"{path} ends within a record: delete its folder and prepare or copy it again.")
            yield record
