"""Loading TFDS folders and folders of images: the arrays, and the errors."""

import io
import os
import shutil
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from resnet_jax.config import DataConfig
from resnet_jax.data.choice import choose_feed, encoded
from resnet_jax.data.memory import load
from resnet_jax.data.reading import images
from resnet_jax.data.reading.folder import has_class_folders, list_images
from resnet_jax.data.reading.images import decode_rgb, encode_png
from resnet_jax.data.source import open_folder, open_tfds
from resnet_jax.errors import UsageError, UserError
from resnet_jax.training.images import open_source


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# ---- TFDS folders

with tfds.core.registered.skip_registration():

    class Shapes(tfds.core.GeneratorBasedBuilder):
        """A set unknown to TFDS, with a feature that is neither the image nor the label."""

        VERSION = tfds.core.Version("1.0.0")
        SPLITS = {"train": 5, "test": 3}  # noqa: RUF012
        LABELED = ("train", "test", "validation")
        FEATURES = {  # noqa: RUF012
            "image": tfds.features.Image(shape=(4, 6, 3)),
            "note": tfds.features.Text(),
            "shape": tfds.features.ClassLabel(names=["round", "square"]),
        }
        SUPERVISED = None

        def _info(self):
            features = tfds.features.FeaturesDict(self.FEATURES)
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=self.SUPERVISED)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, count) for split, count in self.SPLITS.items()}

        def _generate_examples(self, split, count):
            for index in range(count):
                label = index % 2 if split in self.LABELED else -1
                example = {"image": encode_png(pixels(label + 1, 4, 6, 3)), "note": "x", "shape": label}
                yield index, {key: example[key] for key in self.FEATURES}


def prepare(builder_class: type, data_dir: Path) -> Path:
    builder = builder_class(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def test_a_prepared_set_loads_with_its_pixels_labels_and_class_names(tmp_path):
    prepare(Shapes, tmp_path)
    dataset = load(open_tfds("shapes", tmp_path), None)
    assert (dataset.name, dataset.class_names) == ("shapes", ("round", "square"))
    assert (len(dataset.train.images), len(dataset.test.images)) == (5, 3)
    for image, label in zip(*dataset.train, strict=True):
        np.testing.assert_array_equal(image, pixels(int(label) + 1, 4, 6, 3))


def test_loading_again_does_not_read_the_records(tmp_path):
    folder = prepare(Shapes, tmp_path)
    first = load(open_tfds("shapes", tmp_path), None)
    (shard,) = folder.glob("*train*")
    stat = shard.stat()
    shard.write_bytes(bytes(stat.st_size))
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    np.testing.assert_array_equal(load(open_tfds("shapes", tmp_path), None).train.images, first.train.images)


def test_the_newest_complete_version_is_read(tmp_path):
    folder = prepare(Shapes, tmp_path)
    newer = type("Shapes", (Shapes,), {"VERSION": tfds.core.Version("10.0.0"), "SPLITS": {"train": 2, "test": 2}})
    with tfds.core.registered.skip_registration():
        prepare(newer, tmp_path)
    shutil.copytree(folder, folder.parent / "incomplete.ABC123_11.0.0")
    assert len(load(open_tfds("shapes", tmp_path), None).train.labels) == 2


def test_the_data_dir_defaults_to_the_environment_variable(tmp_path, monkeypatch):
    prepare(Shapes, tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert load(open_tfds("shapes", None), None).name == "shapes"


@pytest.mark.parametrize("splits", [{"train": 4, "validation": 3}, {"train": 4, "test": 2, "validation": 3}])
def test_validation_is_the_test_split_if_test_is_missing_or_unlabeled(tmp_path, splits):
    attributes = {"SPLITS": splits, "LABELED": ("train", "validation")}
    with tfds.core.registered.skip_registration():
        prepare(type("Shapes", (Shapes,), attributes), tmp_path)
    assert len(load(open_tfds("shapes", tmp_path), None).test.labels) == 3


def test_a_set_without_a_test_split_is_refused_with_the_splits_it_has(tmp_path):
    with tfds.core.registered.skip_registration():
        prepare(type("Shapes", (Shapes,), {"SPLITS": {"train": 4}}), tmp_path)
    with pytest.raises(UserError, match="has the splits train: "):
        load(open_tfds("shapes", tmp_path), None)


def test_a_set_without_labels_is_refused_with_its_features(tmp_path):
    features = {key: Shapes.FEATURES[key] for key in ("image", "note")}
    with tfds.core.registered.skip_registration():
        prepare(type("Shapes", (Shapes,), {"FEATURES": features}), tmp_path)
    with pytest.raises(UserError, match=r"one Image and one ClassLabel feature, got .*note \(Text\)"):
        load(open_tfds("shapes", tmp_path), None)


def test_an_unknown_name_lists_the_known_and_the_prepared_sets(tmp_path):
    prepare(Shapes, tmp_path)
    with pytest.raises(UserError, match=r"'shape'.* cifar10, .*mnist; prepared in .* shapes\."):
        load(open_tfds("shape", tmp_path), None)


def test_several_configurations_are_listed_to_choose_from(tmp_path):
    folder = prepare(Shapes, tmp_path / "made")
    for config in ("a", "b"):
        shutil.copytree(folder, tmp_path / "shapes" / config / "1.0.0")
    with pytest.raises(UserError, match="name one of shapes/a, shapes/b"):
        load(open_tfds("shapes", tmp_path), None)
    assert len(load(open_tfds("shapes/b", tmp_path), None).train.labels) == 5


def to_tfrecord(folder: Path) -> None:
    """Rewrite a prepared folder in the default format of TFDS; the checksums, which are not read, are zeros."""
    builder = tfds.builder_from_directory(folder)
    for split in builder.info.splits:
        raw = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
        framed = b"".join(struct.pack("<QI", len(record), 0) + record + bytes(4) for record in raw)
        (shard,) = folder.glob(f"*-{split}.*")
        shard.with_name(shard.name.replace("array_record", "tfrecord")).write_bytes(framed)
        shard.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def test_a_tfrecord_folder_loads_the_same_arrays_as_an_array_record_folder(tmp_path):
    folder = prepare(Shapes, tmp_path)
    expected = load(open_tfds("shapes", tmp_path), None)
    to_tfrecord(folder)
    got = load(open_tfds("shapes", tmp_path), None)
    np.testing.assert_array_equal(got.train.images, expected.train.images)
    np.testing.assert_array_equal(got.test.labels, expected.test.labels)


def test_a_tfrecord_folder_can_be_kept_in_memory_but_not_streamed(tmp_path):
    to_tfrecord(prepare(Shapes, tmp_path))
    source = open_tfds("shapes", tmp_path)
    assert choose_feed(encoded(source, None), None, jax.devices()[0], crops=False)[0] == "resident"
    with pytest.raises(UserError, match="--file_format=array_record"):
        source.train[0]


def test_a_truncated_tfrecord_file_is_named(tmp_path):
    folder = prepare(Shapes, tmp_path)
    to_tfrecord(folder)
    (shard,) = folder.glob("*-train.*")
    os.truncate(shard, shard.stat().st_size - 10)
    with pytest.raises(UserError, match=f"{shard} ends within a record"):
        load(open_tfds("shapes", tmp_path), None)


def test_a_missing_shard_is_an_error_with_the_remedy(tmp_path):
    folder = prepare(Shapes, tmp_path)
    next(folder.glob("*-train.*")).unlink()
    with pytest.raises(UserError, match=r"is damaged .* delete it and prepare or copy it again"):
        load(open_tfds("shapes", tmp_path), None)


def test_loading_does_not_import_tensorflow_and_importing_the_package_does_not_import_tfds(tmp_path):
    program = (
        "import sys, pathlib; from resnet_jax.data.source import open_tfds; from resnet_jax.data.memory import load;"
        "assert 'tensorflow_datasets' not in sys.modules;"
        "load(open_tfds('digits', pathlib.Path(sys.argv[1])), None); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


# ---- folders of images


def save(path: Path, image: np.ndarray | Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)


def fill(folder: Path, count: int = 2, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    for label, name in enumerate(classes):
        for index in range(count):
            save(folder / name / f"{index}.png", pixels(100 * label + index, 4, 6, 3))


def test_train_and_test_folders_load_with_classes_in_alphabetical_order(tmp_path):
    fill(tmp_path / "train", 3)
    fill(tmp_path / "test", 2)
    dataset = load(open_folder(tmp_path), None)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(dataset.test.images[3], pixels(101, 4, 6, 3))


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_validation_folder_is_the_test_split(tmp_path, name):
    fill(tmp_path / "train", 3)
    fill(tmp_path / name, 2)
    assert len(load(open_folder(tmp_path), None).test.labels) == 4


def test_class_folders_alone_hold_out_a_fifth_of_each_class(tmp_path):
    fill(tmp_path, 10)
    dataset = load(open_folder(tmp_path), None)
    assert np.bincount(dataset.train.labels).tolist() == [8, 8]
    assert np.bincount(dataset.test.labels).tolist() == [2, 2]
    together = np.concatenate([dataset.train.images, dataset.test.images])
    assert len(np.unique(together, axis=0)) == 20


def test_the_held_out_fifth_is_the_same_after_the_folder_is_moved(tmp_path):
    fill(tmp_path / "a", 10)
    first = load(open_folder(tmp_path / "a"), None)
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(load(open_folder(tmp_path / "b"), None).test.images, first.test.images)


def test_a_class_called_train_is_a_class(tmp_path):
    fill(tmp_path, 5, ("plane", "train"))
    assert load(open_folder(tmp_path), None).class_names == ("plane", "train")


def test_hidden_files_and_folders_and_other_files_are_ignored(tmp_path):
    fill(tmp_path, 5)
    fill(tmp_path, 5, (".trash",))
    (tmp_path / "cat" / "._0.png").write_bytes(b"not an image")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    dataset = load(open_folder(tmp_path), None)
    assert dataset.class_names == ("cat", "dog")
    assert len(dataset.train.labels) + len(dataset.test.labels) == 10


@pytest.mark.parametrize(
    "train, test", [("Training", "Testing"), ("Train", "Test"), ("TRAIN", "valid"), ("train", "Val")]
)
def test_split_folders_in_their_usual_spellings_are_splits(tmp_path, train, test):
    fill(tmp_path / train, 3)
    fill(tmp_path / test, 2)
    source = open_folder(tmp_path)
    assert source.class_names == ("cat", "dog") and (len(source.train), len(source.test)) == (6, 4)


def test_a_validation_folder_beside_a_test_folder_is_the_validation_split(tmp_path):
    for name, count in (("train", 4), ("val", 3), ("test", 2)):
        fill(tmp_path / name, count)
    dataset = load(open_folder(tmp_path), None)
    assert dataset.val is not None
    assert [len(split.labels) for split in (dataset.train, dataset.val, dataset.test)] == [8, 6, 4]
    with pytest.raises(UsageError, match="val-fraction"):
        dataset.hold_out(0.1)


def test_a_folder_may_have_a_test_split_only(tmp_path):
    fill(tmp_path / "test", 2)
    dataset = load(open_folder(tmp_path), None)
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (0, 4)


def test_without_holding_out_all_images_of_class_folders_are_the_test_split(tmp_path):
    fill(tmp_path, 5)
    source = open_folder(tmp_path, hold_out=False)
    assert (len(source.train), len(source.test)) == (0, 10)


@pytest.mark.parametrize("other", ["bird", "Train", "test/0.png"])
def test_a_folder_that_can_be_read_in_two_ways_is_refused(tmp_path, other):
    """The folder may hold splits and another folder beside them, or classes."""
    fill(tmp_path / "train", 2)
    if other.endswith(".png"):
        save(tmp_path / other, pixels(0, 4, 6, 3))
    else:
        fill(tmp_path / "test", 2)
        fill(tmp_path / other, 2)
    with pytest.raises(UserError, match="two ways"):
        open_folder(tmp_path)


def test_splits_without_class_folders_are_refused(tmp_path):
    for name in ("train", "test"):
        save(tmp_path / name / "0.png", pixels(0, 4, 6, 3))
    with pytest.raises(UserError, match="no class folders"):
        open_folder(tmp_path)


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".avif"])
def test_every_suffix_of_a_known_format_is_an_image(tmp_path, suffix):
    fill(tmp_path, 2)
    for name in ("cat", "dog"):
        save(tmp_path / name / f"other{suffix}", pixels(0, 4, 6, 3))
    assert len(open_folder(tmp_path, hold_out=False).test) == 6


def test_skipped_files_are_counted_and_named(tmp_path):
    fill(tmp_path, 2)
    (tmp_path / "cat" / "1.heic").touch()
    (tmp_path / "cat" / "2.HEIC").touch()
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dog" / "circle").symlink_to(tmp_path)
    save(tmp_path / "dog" / "0.png.gradcam.png", pixels(0, 4, 6, 3))
    source = open_folder(tmp_path, hold_out=False)
    (remark,) = source.remarks
    assert len(source.test) == 4
    for fact in (
        ".heic: 2",
        "not a regular file: 1",
        "broken link: 1",
        "leads back to itself: 1",
        ".gradcam.png: 1",
    ):
        assert fact in remark


def test_images_outside_the_class_folders_are_named_as_that(tmp_path):
    fill(tmp_path, 2)
    save(tmp_path / "loose.png", pixels(0, 4, 6, 3))
    (remark,) = open_folder(tmp_path, hold_out=False).remarks
    assert "image outside the class folders: 1" in remark and "loose.png" in remark


@pytest.mark.parametrize("target", ["..", "../..", "../../.."], ids=["folder", "around it", "around that"])
def test_a_link_to_a_folder_around_it_adds_no_images(tmp_path, target):
    fill(tmp_path / "photos", 2)
    save(tmp_path / "other.png", pixels(0, 4, 6, 3))
    (tmp_path / "photos" / "cat" / "circle").symlink_to(target)
    assert len(open_folder(tmp_path / "photos", hold_out=False).test) == 4


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_photographs_in_heic_are_skipped_with_the_remedy(tmp_path):
    fill(tmp_path, 2)
    (tmp_path / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (remark,) = open_folder(tmp_path, hold_out=False).remarks
    assert ".heic: 1" in remark and "JPEG" in remark and "pillow-heif" in remark


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_a_class_of_heic_alone_is_refused_with_the_remedy(tmp_path):
    fill(tmp_path, 2)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UserError, match=r"class folders emu .*\.heic: 1.*JPEG.*pillow-heif"):
        open_folder(tmp_path)


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    fill(tmp_path, 2)
    for name in ("cat", "dog"):
        save(tmp_path / name / "IMG_1.HEIC", np.full((64, 64, 3), 128, np.uint8))
    dataset = load(open_folder(tmp_path, hold_out=False), 4)
    assert len(dataset.test.labels) == 6 and abs(dataset.test.images[2].astype(int) - 128).max() <= 3


@pytest.mark.parametrize("size", [None, 16])
def test_avif_has_the_pixels_of_the_picture(tmp_path, size):
    save(tmp_path / "a.avif", np.full((32, 48, 3), (200, 90, 30), np.uint8), quality=90)
    assert abs(decode_rgb(tmp_path / "a.avif", size).astype(int) - (200, 90, 30)).max() <= 4


def test_an_image_that_is_in_two_classes_by_a_link_is_refused(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "dog" / "more").symlink_to(tmp_path / "cat")
    with pytest.raises(UserError, match="are the same file"):
        open_folder(tmp_path)


@pytest.mark.parametrize("change", ["move", "remove", "grow"])
def test_the_contents_change_if_an_image_is_moved_to_another_class_removed_or_changed(tmp_path, change):
    fill(tmp_path / "a", 5)
    before = open_folder(tmp_path / "a").contents
    image = tmp_path / "a" / "cat" / "4.png"
    if change == "move":
        image.rename(tmp_path / "a" / "dog" / "other.png")
    elif change == "remove":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes() + b" ")
    assert open_folder(tmp_path / "a").contents != before


def test_the_contents_are_the_same_wherever_the_folder_is(tmp_path):
    fill(tmp_path / "a", 5)
    before = open_folder(tmp_path / "a").contents
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_folder(tmp_path / "b").contents == before


def test_a_folder_of_class_folders_is_recognized_and_nothing_is_written_into_it(tmp_path):
    fill(tmp_path, 5)
    before = sorted(tmp_path.rglob("*"))
    assert open_source(DataConfig(name="digits", dir=tmp_path)).class_names == ("cat", "dog")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("inside", "recognized"), [("", True), ("train", True), ("holidays", False)])
def test_a_folder_with_a_folder_of_photographs_among_others_is_not_recognized(tmp_path, inside, recognized):
    """It may be the folder in which TFDS keeps its data sets."""
    fill(tmp_path / inside, 2)
    assert has_class_folders(tmp_path) == recognized


def test_an_added_image_is_seen_despite_the_cache(tmp_path):
    fill(tmp_path, 5)
    load(open_folder(tmp_path), None)
    fill(tmp_path, 6)
    dataset = load(open_folder(tmp_path), None)
    assert len(dataset.train.labels) + len(dataset.test.labels) == 12


def test_a_link_that_moves_to_another_class_gets_the_label_of_that_class(tmp_path):
    fill(tmp_path / "photos", 5)
    save(tmp_path / "outside.png", pixels(9, 4, 6, 3))
    link = tmp_path / "photos" / "cat" / "link.png"
    link.symlink_to(tmp_path / "outside.png")
    before = load(open_folder(tmp_path / "photos"), None)
    link.rename(tmp_path / "photos" / "dog" / "link.png")
    after = load(open_folder(tmp_path / "photos"), None)
    counts = [np.bincount(np.concatenate([it.train.labels, it.test.labels])).tolist() for it in (before, after)]
    assert counts == [[6, 5], [5, 6]]


def test_a_renamed_class_is_seen_despite_the_cache(tmp_path):
    fill(tmp_path, 5)
    load(open_folder(tmp_path), None)
    (tmp_path / "cat").rename(tmp_path / "zebra")
    dataset = load(open_folder(tmp_path), None)
    assert dataset.class_names == ("dog", "zebra")
    np.testing.assert_array_equal(dataset.train.images[dataset.train.labels == 0][0], load_dog(tmp_path))


def load_dog(folder: Path) -> np.ndarray:
    """Return the first training image of "dog"."""
    example = next(example for example in open_folder(folder).train if example.label == 0)
    return decode_rgb(example.encoded, None)


def test_a_missing_folder_is_refused_with_the_expected_layout(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a folder.*FOLDER/train/CLASS/IMAGE"):
        load(open_folder(tmp_path / "nowhere"), None)


@pytest.fixture
def closed(tmp_path):
    """Return a folder of images that may not be looked into; root may look into any, so it becomes somebody else."""
    with TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        folder = Path(place) / "images"
        fill(folder, 5)
        folder.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


@pytest.mark.parametrize("source", ["folder", "tfds"])
def test_a_folder_that_may_not_be_looked_into_is_named_with_the_reason(closed, source):
    with pytest.raises(UserError, match=r"images \(Permission denied\)"):
        open_source(DataConfig(source=source, dir=closed))


def test_images_that_may_not_be_looked_for_are_named_with_the_reason(closed):
    with pytest.raises(UserError, match=r"images \(Permission denied\)"):
        list_images(closed, [])


@pytest.mark.parametrize("source", ["folder", "tfds"])
@pytest.mark.parametrize("what", ["a file", "a broken link"])
def test_what_is_in_the_place_of_a_data_folder_is_said(tmp_path, source, what):
    path = tmp_path / "data"
    path.touch() if what == "a file" else path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"{path} is .*{what}"):
        open_source(DataConfig(source=source, dir=path))


def test_a_class_folder_that_is_a_link_to_nothing_is_named(tmp_path):
    fill(tmp_path, 5, ("cat",))
    (tmp_path / "dog").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=rf"1 class folders.*broken link: 1 \(such as {tmp_path}/dog\)"):
        open_folder(tmp_path)


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_fewer_than_two_classes_are_refused(tmp_path, classes):
    fill(tmp_path, 5, classes)
    with pytest.raises(UserError, match=f"has {len(classes)} class folders"):
        load(open_folder(tmp_path), None)


def test_a_class_without_images_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No images in the class folders empty of"):
        load(open_folder(tmp_path), None)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    fill(tmp_path)
    fill(tmp_path, 1, ("emu",))
    with pytest.raises(UserError, match="classes emu have 1 image"):
        load(open_folder(tmp_path), None)


def test_a_class_in_only_one_of_the_splits_is_named(tmp_path):
    fill(tmp_path / "train", 2, ("cat", "dog", "emu"))
    fill(tmp_path / "test", 2)
    with pytest.raises(UserError, match="only one of them has emu"):
        load(open_folder(tmp_path), None)


def test_a_train_folder_without_a_test_folder_is_refused(tmp_path):
    fill(tmp_path / "train")
    with pytest.raises(UserError, match=r"test"):
        load(open_folder(tmp_path), None)


@pytest.mark.parametrize("content", [b"", b"text", encode_png(pixels(0, 4, 6, 3))[:60]])
def test_an_unreadable_or_truncated_image_is_named(tmp_path, content):
    fill(tmp_path, 5)
    (tmp_path / "dog" / "3.png").write_bytes(content)
    with pytest.raises(UserError, match=r"dog/3\.png"):
        load(open_folder(tmp_path), None)


def test_images_of_different_sizes_ask_for_an_image_size(tmp_path):
    fill(tmp_path, 5)
    save(tmp_path / "dog" / "3.png", pixels(0, 5, 5, 3))
    with pytest.raises(UserError, match=r"dog/3\.png is 5x5 .* is 6x4.*`--data\.image-size`"):
        load(open_folder(tmp_path), None)
    assert load(open_folder(tmp_path), 4).train.images.shape[1:] == (4, 4, 3)


def test_train_and_test_of_different_sizes_ask_for_an_image_size(tmp_path):
    fill(tmp_path / "train")
    for name in ("cat", "dog"):
        save(tmp_path / "test" / name / "0.png", pixels(0, 5, 5, 3))
    with pytest.raises(UserError, match=r"one size.*`--data\.image-size`"):
        load(open_folder(tmp_path), None)


def test_images_that_exceed_the_memory_are_refused_before_decoding_them(tmp_path):
    fill(tmp_path, 5)
    with pytest.raises(UserError, match=r"8 images of \d+x\d+ take .* GB decoded, and this machine has"):
        load(open_folder(tmp_path), _size_beyond_memory())


def _size_beyond_memory() -> int:
    return int((os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 8 / 3) ** 0.5)


# ---- one image


def png(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


RGB = pixels(3, 4, 6, 3)


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (encode_png(RGB), RGB),
        (encode_png(RGB[..., 0]), RGB[..., :1].repeat(3, -1)),
        (encode_png(np.dstack([RGB, RGB[..., :1]])), RGB),
        (png(Image.fromarray(RGB).quantize(24)), RGB),
        (png(Image.fromarray(RGB).quantize(24), transparency=bytes(24)), RGB),
        (png(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)), RGB[..., :1].repeat(3, -1)),
    ],
    ids=["rgb", "gray", "rgba", "palette", "palette with transparency", "16 bits"],
)
def test_every_kind_of_image_becomes_rgb(encoded, expected):
    np.testing.assert_array_equal(decode_rgb(encoded, None), expected)


def test_the_rotation_stored_by_a_camera_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    np.testing.assert_array_equal(decode_rgb(png(Image.fromarray(RGB), exif=exif), None), np.rot90(RGB, -1))


def test_the_image_size_keeps_the_central_square():
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 4:12] = 200
    decoded = decode_rgb(encode_png(image), 8)
    np.testing.assert_array_equal(decoded, np.full((8, 8, 3), 200))


def test_the_image_size_resizes_the_shorter_side_to_it():
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[:, None, None], (24, 8, 3)).copy()
    decoded = decode_rgb(encode_png(ramp), 4)  # resized to 12x4, then rows 4 to 7; each is the mean of two rows
    assert decoded.shape == (4, 4, 3)
    np.testing.assert_allclose(decoded[:, 0, 0], [85, 105, 125, 145], atol=3)


@pytest.mark.parametrize("values", [np.linspace(0, 1, 24, dtype=np.float32), np.arange(24, dtype=np.int32)])
def test_an_image_whose_values_have_no_known_range_is_refused(tmp_path, values):
    Image.fromarray(values.reshape(4, 6)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="32 bits"):
        decode_rgb(tmp_path / "a.tif", None)


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, suffix):
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 257).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(decode_rgb(tmp_path / f"a{suffix}", None), RGB[..., :1].repeat(3, -1))


def test_a_thin_image_is_never_resized_as_a_whole():
    thin = np.zeros((1, 400_000, 3), np.uint8)  # which would take 60 GB
    thin[:, 199_990:200_010] = 200
    decoded = decode_rgb(encode_png(thin), 224)
    assert decoded.shape == (224, 224, 3) and (decoded == 200).all()


def test_computing_only_the_square_gives_the_square_of_the_whole_image(monkeypatch):
    image = encode_png(pixels(5, 30, 50, 3))
    whole = decode_rgb(image, 12)
    monkeypatch.setattr(images, "THIN", 0)
    np.testing.assert_allclose(decode_rgb(image, 12).astype(int), whole, atol=1)


def test_no_data_set_is_prepared_among_other_files(tmp_path):
    (tmp_path / "IMG_1.jpg").touch()
    with pytest.raises(UserError, match=r"IMG_1\.jpg.*digits is not prepared"):
        open_tfds("digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["IMG_1.jpg"]
