"""`resnet-jax prepare`: what it writes is read as a data set of TFDS."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from resnet_jax.commands.prepare import prepare
from resnet_jax.data.builders import shards
from resnet_jax.data.builders.imagenet import DEVKIT, TRAIN, VAL, open_imagenet
from resnet_jax.data.reading.images import Example, decode_rgb
from resnet_jax.data.source import open_folder, open_tfds
from resnet_jax.errors import UsageError, UserError

WIDE = (60, 40)


def jpeg(level: int, size: tuple[int, int] = WIDE) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (level, 100, 200)).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture
def photos(tmp_path) -> Path:
    """Return a folder of 7 training and 3 test images of each of two classes."""
    for split, count in (("train", 7), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "Photos 1" / split / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "Photos 1" / split / name / f"{number}.jpg"
                path.write_bytes(jpeg(100 * label + 10 * number))
    return tmp_path / "Photos 1"


def contents(examples) -> list[tuple[bytes, int]]:
    return [(encoded if isinstance(encoded, bytes) else encoded.read_bytes(), label) for _, encoded, label in examples]


def test_a_prepared_folder_has_the_bytes_labels_and_class_names_of_the_files(photos, tmp_path, capsys):
    prepare("folder", source=photos, dir=tmp_path / "sets")
    written, files = open_tfds("photos_1", tmp_path / "sets"), open_folder(photos)
    assert written.class_names == ("cat", "dog") and "14 train, 6 test" in capsys.readouterr().out
    assert contents(written.train) == contents(files.train) and contents(written.test) == contents(files.test)
    assert contents([written.train[9]]) == contents([files.train[9]])


def test_images_are_shrunk_to_the_longer_side(photos, tmp_path):
    Image.new("RGB", (20, 10)).save(photos / "train" / "cat" / "small.jpg")
    prepare("folder", source=photos, dir=tmp_path, max_side=30, name="small")
    written = open_tfds("small", tmp_path).train
    sizes = [decode_rgb(example.encoded, None).shape[:2] for example in written]
    assert sorted(set(sizes)) == [(10, 20), (20, 30)]
    files = contents(open_folder(photos).train)
    assert sum(content in files for content in contents(written)) == 1  # the small one, as it was


def test_a_killed_preparation_goes_on_with_the_shards_that_are_missing(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 4)
    source, storing, folder = open_folder(photos), shards.Storing(None, 90), tmp_path / "sets" / "photos" / "1.0.0"
    splits = {"train": source.train, "test": source.test}

    class Killed(Exception):
        pass

    def stop(count: int) -> None:
        if (folder.parent / "incomplete.1.0.0" / "photos-train.array_record-00001-of-00004").exists():
            raise Killed

    with pytest.raises(Killed):
        shards.write_prepared(source, folder, splits, storing, stop)
    assert not folder.exists()
    first, second = sorted((folder.parent / "incomplete.1.0.0").glob("*.array_record-*"))
    before = [path.stat().st_mtime_ns for path in (first, second)]
    advanced: list[int] = []
    shards.write_prepared(source, folder, splits, storing, advanced.append)
    assert [(folder / path.name).stat().st_mtime_ns for path in (first, second)] == before
    assert advanced == [4, 4, 4, 2, 4, 2]
    assert contents(open_tfds("photos", tmp_path / "sets").train) == contents(source.train)


def test_an_unfinished_preparation_with_other_settings_is_not_mixed_with_this_one(photos, tmp_path):
    source, folder = open_folder(photos), tmp_path / "photos" / "1.0.0"
    (photos / "test" / "dog" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"dog/1\.jpg"):
        shards.write_prepared(source, folder, {"test": source.test}, shards.Storing(None, 90), lambda count: None)
    with pytest.raises(UserError, match=r"incomplete\.1\.0\.0 .*other settings"):
        shards.write_prepared(source, folder, {"test": source.test}, shards.Storing(10, 90), lambda count: None)


def test_a_shard_that_is_read_back_with_other_content_is_refused(photos, tmp_path, monkeypatch):
    class Forgetful(shards.ArrayRecordWriter):
        def write(self, record: bytes) -> None:
            super().write(record[:-1] + bytes([record[-1] ^ 1]))

    monkeypatch.setattr(shards, "ArrayRecordWriter", Forgetful)
    with pytest.raises(UserError, match="check the disk"):
        prepare("folder", source=photos, dir=tmp_path / "sets")
    assert not (tmp_path / "sets" / "photos_1" / "1.0.0").exists()


def test_a_prepared_set_is_not_replaced(photos, tmp_path):
    prepare("folder", source=photos, dir=tmp_path / "sets")
    with pytest.raises(UserError, match="--name"):
        prepare("folder", source=photos, dir=tmp_path / "sets")


@pytest.mark.parametrize("options", [{"quality": 96}, {"quality": 0}, {"max_side": 0}, {"name": "a/b"}])
def test_a_value_out_of_range_is_refused_with_its_option(photos, tmp_path, options):
    option = next(iter(options)).replace("_", "-")
    with pytest.raises(UsageError, match=f"--{option}"):
        prepare("folder", source=photos, dir=tmp_path / "sets", **options)


# ---- ImageNet


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def archives(tmp_path) -> Path:
    """Return a folder with archives in the official form: three classes, whose ids are not in alphabetical order."""
    folder, wnids = tmp_path / "archives", {1: "n03", 2: "n01", 3: "n02"}
    folder.mkdir()
    with tarfile.open(folder / TRAIN, "w") as outer:
        for number, wnid in wnids.items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for image in range(2):
                    add(archive, f"{wnid}_{image}.JPEG", jpeg(50 * number + image))
            add(outer, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(folder / VAL, "w") as archive:
        for image, number in reversed(list(enumerate((2, 3, 1, 2), 1))):
            add(archive, f"ILSVRC2012_val_{image:08}.JPEG", jpeg(50 * number + 20 + image))
    rows = [(number, wnid, 0) for number, wnid in wnids.items()] + [(4, "n00", 3)]  # and a class of classes
    types = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, types)[:, None]})
    with tarfile.open(folder / DEVKIT, "w:gz") as archive:
        add(archive, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add(archive, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", b"2\n3\n1\n2\n")
    return folder


def red(example: Example) -> int:
    return int(decode_rgb(example.encoded, None)[0, 0, 0])


def test_imagenet_is_read_from_its_archives(archives):
    source = open_imagenet(archives)
    assert source.class_names == ("n01", "n02", "n03")
    assert [(example.label, red(example)) for example in source.train] == [
        *(
            (label, pytest.approx(50 * number + image, abs=2))
            for label, number in enumerate((2, 3, 1))
            for image in (0, 1)
        )
    ]
    expected = [(0, 121), (1, 172), (2, 73), (0, 124)]
    assert [(example.label, red(example)) for example in source.test] == [
        (label, pytest.approx(level, abs=2)) for label, level in expected
    ]


def test_prepared_imagenet_has_the_name_version_and_splits_of_tfds(archives, tmp_path):
    prepare("imagenet2012", source=archives, dir=tmp_path / "sets")
    assert (tmp_path / "sets" / "imagenet2012" / "5.1.0" / "dataset_info.json").exists()
    written = open_tfds("imagenet2012", tmp_path / "sets")
    assert contents(written.train) == contents(open_imagenet(archives).train) and len(written.test) == 4
    assert written.test.split == "validation"


def test_a_missing_archive_is_named(archives):
    os.remove(archives / DEVKIT)
    with pytest.raises(UserError, match=DEVKIT):
        open_imagenet(archives)


def test_a_truncated_archive_is_an_error(archives):
    os.truncate(archives / VAL, 1000)
    with pytest.raises(UserError, match="damaged"):
        open_imagenet(archives)
