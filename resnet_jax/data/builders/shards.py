"""A source written as a prepared TFDS folder, shard by shard, without TensorFlow."""

import contextlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from resnet_jax.data.reading.images import Examples, decoding, open_image, upright_rgb
from resnet_jax.data.source import Source
from resnet_jax.errors import UserError, writing

SHARD = 10_000
"""Images in a shard: 1.1 GB of ImageNet's. What a killed preparation has begun and not finished is written again."""
_SETTINGS = "settings.json"
_ROUND = 256  # images encoded ahead of the writing


@dataclass(frozen=True)
class Storing:
    """How images are stored."""

    max_side: int | None
    """Pixels of the longer side; larger images are shrunk. None for images as they are."""
    quality: int
    """Of the JPEGs that are written, from 1 to 95."""

    def encode(self, encoded: bytes | Path) -> bytes:
        """Return an image as it is if it is a JPEG or PNG of this size, otherwise as a JPEG; it is decoded to check it.

        Raises:
            OSError, SyntaxError, ValueError, Image.DecompressionBombError: see `decode_rgb`.
        """
        content = encoded if isinstance(encoded, bytes) else encoded.read_bytes()
        with open_image(content) as image:
            longer = max(image.size)
            if image.format in ("JPEG", "PNG") and (self.max_side is None or longer <= self.max_side):
                image.load()
                return content
            if self.max_side is not None:
                image.draft("RGB", (2 * self.max_side, 2 * self.max_side))  # a large JPEG is decoded at half its size
            image = upright_rgb(image)
        if self.max_side is not None and longer > self.max_side:
            image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "jpeg", quality=self.quality)
        return file.getvalue()


def write_prepared(
    source: Source, folder: Path, splits: dict[str, Examples], storing: Storing, advance: Callable[[int], None]
) -> None:
    """Write a prepared TFDS folder, or finish one that was begun; until then it is named incomplete.VERSION.

    Args:
        source: the images, whose class names and contents are used.
        folder: NAME/VERSION in a folder of TFDS; it does not exist.
        splits: the images by TFDS's name of the split.
        storing: how images are stored.
        advance: called with the number of images of each finished shard.

    Raises:
        UserError: an image is unreadable, the disk is full, or other images or settings were begun there.
    """
    begun = folder.with_name(f"incomplete.{folder.name}")
    with writing(begun, "free space, or name another --dir"):
        begun.mkdir(parents=True, exist_ok=True)
        _claim(begun, {"contents": source.contents, "storing": vars(storing), "classes": source.class_names})
        infos = [_write_split(begun, folder.parent.name, *split, storing, advance) for split in splits.items()]
        _write_metadata(begun, folder, source, infos)
        (begun / _SETTINGS).unlink()
        begun.rename(folder)


def _write_split(
    begun: Path, name: str, split: str, examples: Examples, storing: Storing, advance: Callable[[int], None]
) -> tfds.core.SplitInfo:
    """Write the shards of a split that are not there yet."""
    parts = [range(start, min(start + SHARD, len(examples))) for start in range(0, len(examples), SHARD)]
    paths = [begun / f"{name}-{split}.array_record-{number:05}-of-{len(parts):05}" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        if not path.exists():
            _write_shard(path, examples, part, storing)
        advance(len(part))
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(part) for part in parts],
        num_bytes=sum(path.stat().st_size for path in paths),
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir=begun, dataset_name=name, split=split, filetype_suffix="array_record"
        ),
    )


def _claim(begun: Path, settings: dict) -> None:
    path, content = begun / _SETTINGS, json.dumps(settings, sort_keys=True)
    if not path.exists():
        path.write_text(content)
    elif path.read_text() != content:
        raise UserError(
            f"{begun} is an unfinished preparation of other images, or with other settings: repeat it with these, or "
            "delete it"
        )


def _write_shard(path: Path, examples: Examples, part: range, storing: Storing) -> None:
    """Write one shard, and read it back before it gets its name."""
    unnamed = path.with_name(f"{path.name}.tmp")
    unnamed.unlink(missing_ok=True)
    try:
        writer, written = ArrayRecordWriter(os.fspath(unnamed), "group_size:1"), 0
        for record in _records(examples, part, storing):
            writer.write(record)
            written = zlib.crc32(record, written)
        writer.close()
        reader, found = ArrayRecordReader(os.fspath(unnamed)), 0
        for index in range(reader.num_records()):
            found = zlib.crc32(reader.read([index])[0], found)
    except RuntimeError as error:  # array_record's, for a full or broken disk
        raise UserError(f"can't write {path} ({error}): free space, or name another --dir") from error
    if (reader.num_records(), found) != (len(part), written):
        raise UserError(f"{unnamed} does not hold what was written: check the disk")
    unnamed.rename(path)


def _records(examples: Examples, part: range, storing: Storing) -> Iterator[bytes]:
    """Encode examples on all cores, in order."""

    def record(index: int) -> bytes:
        example = examples[index]
        features = tf_example_pb2.Example()
        features.features.feature["image"].bytes_list.value.append(decoding(example, storing.encode))
        features.features.feature["label"].int64_list.value.append(example.label)
        return features.SerializeToString()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(part.start, part.stop, _ROUND):
            yield from pool.map(record, part[start - part.start : start - part.start + _ROUND])


def _write_metadata(begun: Path, folder: Path, source: Source, infos: list[tfds.core.SplitInfo]) -> None:
    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=source.class_names),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.folder_dataset.write_metadata(
            data_dir=begun,
            features=features,
            split_infos=infos,
            version=folder.name,
            check_data=False,  # which needs TensorFlow; each shard has been read back
            supervised_keys=("image", "label"),
        )
