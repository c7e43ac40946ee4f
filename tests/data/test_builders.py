"""The builders without TensorFlow, on tiny archives in the official formats, and the download of archives."""

import gc
import gzip
import hashlib
import io
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from resnet_jax.data.builders.cifar import Cifar10, Cifar100
from resnet_jax.data.builders.digits import Digits
from resnet_jax.data.builders.download import Archive, fetch
from resnet_jax.data.builders.mnist import MNIST, FashionMNIST
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.errors import UserError

OFFICIAL = tfds.image_classification


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def by_first_pixel(images: np.ndarray) -> np.ndarray:
    """Sort images by their first pixel, as TFDS shuffles them when it prepares a set."""
    return images[np.argsort(images[:, 0, 0, 0])]


# ---- CIFAR: a tar.gz of binary batches


def cifar_images(start: int, count: int) -> np.ndarray:
    images = np.random.default_rng(start).integers(0, 256, (count, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(start, start + count)
    return images


def cifar_batch(images: np.ndarray, *labels: int) -> bytes:
    return b"".join(bytes(labels) + image.transpose(2, 0, 1).tobytes() for image in images)


def put_archive(path: Path, members: dict[str, bytes]) -> str:
    """Write a tar.gz and return its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return sha256(path.read_bytes())


def put_cifar10(data_dir: Path) -> str:
    folder = "cifar-10-batches-bin/"
    members = {f"{folder}batches.meta.txt": "".join(f"class{n}\n" for n in range(10)).encode() + b"\n"}
    members |= {f"{folder}data_batch_{n}.bin": cifar_batch(cifar_images(2 * n, 2), n) for n in range(1, 6)}
    members[f"{folder}test_batch.bin"] = cifar_batch(cifar_images(50, 3), 7)
    members[f"{folder}readme.html"] = b"ignored"
    return put_archive(data_dir / "downloads" / "cifar-10-binary.tar.gz", members)


def accept(monkeypatch: pytest.MonkeyPatch, builder: type, sha: str) -> None:
    monkeypatch.setattr(builder, "ARCHIVE", Archive(builder.ARCHIVE.url, (sha,)))


@pytest.fixture
def cifar10_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    accept(monkeypatch, Cifar10, put_cifar10(tmp_path))
    return tmp_path


def test_cifar10_keeps_the_pixels_labels_and_class_names_of_its_archive(cifar10_dir):
    dataset = load(open_tfds("cifar10", cifar10_dir), None)
    assert dataset.class_names == tuple(f"class{n}" for n in range(10))
    np.testing.assert_array_equal(dataset.train.labels, dataset.train.images[:, 0, 0, 0] // 2)
    expected = np.concatenate([cifar_images(2 * n, 2) for n in range(1, 6)])
    np.testing.assert_array_equal(by_first_pixel(dataset.train.images), expected)
    np.testing.assert_array_equal(by_first_pixel(dataset.test.images), cifar_images(50, 3))


def test_cifar10_is_stored_as_tfds_stores_it(cifar10_dir):
    load(open_tfds("cifar10", cifar10_dir), None)
    builder = OFFICIAL.Cifar10(data_dir=cifar10_dir, file_format="array_record")
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {"train": 10, "test": 3}
    ids = {bytes(example["id"]) for example in builder.as_data_source("test")}
    assert ids == {b"test_00000", b"test_00001", b"test_00002"}


def test_cifar100_has_the_fine_labels(tmp_path, monkeypatch):
    folder = "cifar-100-binary/"
    members = {
        f"{folder}coarse_label_names.txt": "".join(f"coarse{n}\n" for n in range(20)).encode(),
        f"{folder}fine_label_names.txt": "".join(f"fine{n}\n" for n in range(100)).encode(),
        f"{folder}train.bin": cifar_batch(cifar_images(0, 4), 3, 42),
        f"{folder}test.bin": cifar_batch(cifar_images(4, 2), 19, 99),
    }
    accept(monkeypatch, Cifar100, put_archive(tmp_path / "downloads" / "cifar-100-binary.tar.gz", members))
    dataset = load(open_tfds("cifar100", tmp_path), None)
    assert dataset.class_names == tuple(f"fine{n}" for n in range(100))
    assert dataset.train.labels.tolist() == [42] * 4
    np.testing.assert_array_equal(by_first_pixel(dataset.test.images), cifar_images(4, 2))


# ---- MNIST: gzipped IDX files


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize(
    ("name", "builder", "first_class"), [("mnist", MNIST, "0"), ("fashion_mnist", FashionMNIST, "T-shirt/top")]
)
def test_both_mnists_keep_the_pixels_and_labels_of_their_archives(tmp_path, monkeypatch, name, builder, first_class):
    images = {"train": np.arange(4 * 784, dtype=np.uint8).reshape(4, 28, 28), "test": np.full((2, 28, 28), 9, np.uint8)}
    archives = {}
    for split, pair in builder.ARCHIVES.items():
        contents = idx(images[split]), idx(images[split][:, 0, 0] % 10)
        for archive, content in zip(pair, contents, strict=True):
            path = tmp_path / "downloads" / name / archive.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        archives[split] = tuple(a._replace(sha256=(sha256(c),)) for a, c in zip(pair, contents, strict=True))
    monkeypatch.setattr(builder, "ARCHIVES", archives)
    dataset = load(open_tfds(name, tmp_path), None)
    assert dataset.class_names[0] == first_class
    np.testing.assert_array_equal(dataset.train.labels, dataset.train.images[:, 0, 0, 0] % 10)
    expected = images["train"][np.argsort(images["train"][:, 0, 0])]
    np.testing.assert_array_equal(by_first_pixel(dataset.train.images), np.repeat(expected[..., None], 3, -1))
    assert dataset.test.labels.tolist() == [9, 9]


# ---- interchangeable with the builders of TFDS


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Cifar10, OFFICIAL.Cifar10),
        (Cifar100, OFFICIAL.Cifar100),
        (MNIST, OFFICIAL.MNIST),
        (FashionMNIST, OFFICIAL.FashionMNIST),
    ],
    ids=lambda builder: builder.__name__,
)
def test_name_version_and_features_are_those_of_tfds(tmp_path, ours, theirs):
    mine, official = (builder(data_dir=tmp_path) for builder in (ours, theirs))
    assert mine.info.full_name == official.info.full_name
    assert mine.info.features.to_json() == official.info.features.to_json()
    assert mine.info.supervised_keys == official.info.supervised_keys


@pytest.mark.parametrize(
    ("builder", "archives"),
    [
        (Cifar10, [Cifar10.ARCHIVE]),
        (Cifar100, [Cifar100.ARCHIVE]),
        (MNIST, [archive for pair in MNIST.ARCHIVES.values() for archive in pair]),
        (FashionMNIST, [archive for pair in FashionMNIST.ARCHIVES.values() for archive in pair]),
    ],
)
def test_urls_and_checksums_are_those_of_tfds(builder, archives):
    official = Path(tfds.__file__).parent / "url_checksums" / f"{builder.name}.txt"
    listed = {line.split("\t")[0]: line.split("\t")[2] for line in official.read_text().splitlines()}
    assert {archive.url: archive.sha256[0] for archive in archives} == listed


def test_our_builders_do_not_replace_those_of_tfds():
    for builder, module in (("cifar10", "image_classification.cifar"), ("mnist", "image_classification.mnist")):
        assert tfds.builder_cls(builder).__module__ == f"tensorflow_datasets.{module}"
    assert "digits" not in tfds.list_builders(with_community_datasets=False)


# ---- digits


@pytest.fixture(scope="module")
def digits_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("digits")
    Digits(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir


def test_digits_has_1437_training_and_360_test_images_of_8x8(digits_dir):
    dataset = load(open_tfds("digits", digits_dir), None)
    assert dataset.train.images.shape == (1437, 8, 8, 3)
    assert dataset.test.images.shape == (360, 8, 8, 3)
    assert dataset.class_names == tuple("0123456789")


def test_digits_has_the_images_of_scikit_learn_scaled_to_255(digits_dir):
    dataset = load(open_tfds("digits", digits_dir), None)
    images = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    source = load_digits()
    expected = sorted((image.tobytes(), label) for image, label in zip(source.images, source.target, strict=True))
    gray = np.round(images[..., 0] / (255 / 16)).astype(source.images.dtype)
    assert sorted((image.tobytes(), label) for image, label in zip(gray, labels, strict=True)) == expected
    assert images.max() == 255


def test_the_test_split_of_digits_is_a_fifth_of_each_class(digits_dir):
    dataset = load(open_tfds("digits", digits_dir), None)
    test, train = np.bincount(dataset.test.labels), np.bincount(dataset.train.labels)
    assert np.abs(test - (test + train) / 5).max() < 1


# ---- downloading an archive

CONTENT = bytes(range(256)) * 500


class Served(NamedTuple):
    url: str
    requests: list[str]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(404 if "missing" in self.path else 200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if "truncated" in self.path else CONTENT)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield Served(f"http://127.0.0.1:{http.server_port}", requests)
        http.shutdown()
        thread.join()


def test_an_archive_is_downloaded_once(server, tmp_path):
    archive = Archive(f"{server.url}/once.tar.gz", (sha256(CONTENT),))
    for _ in range(2):
        path = fetch(archive, tmp_path / "downloads")
    assert path == tmp_path / "downloads" / "once.tar.gz"
    assert path.read_bytes() == CONTENT
    assert server.requests.count("/once.tar.gz") == 1


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # pooch leaves the connection to the garbage collector
@pytest.mark.parametrize(
    ("name", "expected", "reason"),
    [
        ("truncated.tar.gz", sha256(CONTENT), "IncompleteRead"),
        ("altered.tar.gz", sha256(b"other"), "does not match the known hash"),
        ("missing.tar.gz", sha256(CONTENT), "404"),
    ],
)
def test_a_failed_download_names_the_reason_and_leaves_no_file(server, tmp_path, name, expected, reason):
    with pytest.raises(UserError, match=rf"{name} \(.*{reason}"):
        fetch(Archive(f"{server.url}/{name}", (expected,)), tmp_path)
    assert list(tmp_path.iterdir()) == []
    gc.collect()


def test_without_a_network_the_error_names_file_url_folder_and_a_recipe_that_needs_no_download(tmp_path):
    archive = Archive("http://127.0.0.1:9/set.tar.gz", (sha256(b""),))
    with pytest.raises(UserError) as caught:
        fetch(archive, tmp_path / "downloads")
    facts = ("set.tar.gz", "no connection", archive.url, f"{tmp_path}/downloads/set.tar.gz", "configs/digits.py")
    assert all(fact in str(caught.value) for fact in facts)


def test_a_corrupt_archive_is_refused_with_both_hashes(cifar10_dir):
    path = cifar10_dir / "downloads" / "cifar-10-binary.tar.gz"
    expected = Cifar10.ARCHIVE.sha256[0]
    path.write_bytes(b"corrupt")
    with pytest.raises(UserError, match=f"{path} is not .* is {sha256(b'corrupt')}, expected {expected}"):
        load(open_tfds("cifar10", cifar10_dir), None)
    assert path.exists()


def test_a_data_dir_that_cannot_be_written_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"digits.*`--data.dir`"):
        load(open_tfds("digits", tmp_path / "file" / "data"), None)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow above a size in bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [300, 20_000])
def test_a_disk_that_fills_up_while_a_set_is_prepared_is_one_error_and_nothing_of_it_is_read(tmp_path, size):
    with largest_file(size), pytest.raises(UserError, match=rf"can't prepare digits in {tmp_path} .*space"):
        open_tfds("digits", tmp_path)
    assert len(load(open_tfds("digits", tmp_path), None).train.labels) == 1437


def test_a_disk_that_fills_up_while_an_archive_is_downloaded_is_one_error_and_leaves_nothing(server, tmp_path):
    archive = Archive(f"{server.url}/full.tar.gz", (sha256(CONTENT),))
    with largest_file(4096), pytest.raises(UserError, match=rf"can't write {tmp_path}/full.tar.gz .*space") as caught:
        fetch(archive, tmp_path)
    assert "connection" not in str(caught.value) and list(tmp_path.iterdir()) == []
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    gc.collect()


KILLED_WHILE_PREPARING = """
import os, signal, sys
from pathlib import Path
from resnet_jax.data.builders import digits
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds

def encode_then_die(image, count=[0]):
    count[0] += 1
    return b"" if count[0] < 1500 else os.kill(os.getpid(), signal.SIGKILL)

digits.encode_png = encode_then_die
load(open_tfds("digits", Path(sys.argv[1])), None)
"""


def test_a_set_is_prepared_again_after_a_kill(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_PREPARING, str(tmp_path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert load(open_tfds("digits", tmp_path), None).test.images.max() == 255
