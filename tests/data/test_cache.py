"""The cache of decoded arrays: what counts as a hit, and that incomplete files are never used."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resnet_jax.data.reading import cache
from resnet_jax.data.reading.cache import cached, fingerprint, image_cache, stamps


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(b"1")
    return path


class Maker:
    """A function that makes arrays and counts its calls."""

    def __init__(self, values: int = 6):
        self.calls = 0
        self.values = values

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"images": np.arange(self.values, dtype=np.uint8), "labels": np.arange(2, dtype=np.int32)}


def test_the_second_call_returns_the_same_arrays_without_making_them(file):
    make = Maker()
    first, second = (cached("set", fingerprint(stamps([file])), make) for _ in range(2))
    assert make.calls == 1
    for name in ("images", "labels"):
        np.testing.assert_array_equal(first[name], second[name])
        assert first[name].dtype == second[name].dtype


def test_made_and_cached_arrays_are_read_only(file):
    for arrays in (cached("set", fingerprint(stamps([file])), Maker()) for _ in range(2)):
        assert not arrays["images"].flags.writeable


def test_another_image_size_uses_another_cache(file):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    cached("set", fingerprint(stamps([file]), 32), make)
    assert make.calls == 2


def test_a_file_of_another_size_uses_another_cache(file):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    file.write_bytes(b"12")
    cached("set", fingerprint(stamps([file])), make)
    assert make.calls == 2


def test_a_file_modified_at_another_time_uses_another_cache(file):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    os.utime(file, ns=(1, 1))
    cached("set", fingerprint(stamps([file])), make)
    assert make.calls == 2


def test_a_file_at_another_path_uses_another_cache(file, tmp_path):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    cached("set", fingerprint(stamps([file.rename(tmp_path / "moved.bin")])), make)
    assert make.calls == 2


def test_a_truncated_cache_file_is_made_again_and_replaced(file):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    (images,) = image_cache().glob("*/images.npy")
    os.truncate(images, images.stat().st_size - 1)
    np.testing.assert_array_equal(cached("set", fingerprint(stamps([file])), make)["images"], np.arange(6))
    cached("set", fingerprint(stamps([file])), make)
    assert make.calls == 2


def test_a_cache_that_cannot_be_created_is_a_warning(file, cache_home, caplog):
    cache_home.write_text("a file where the folder should be")
    arrays = cached("set", fingerprint(stamps([file])), Maker())
    np.testing.assert_array_equal(arrays["images"], np.arange(6))
    assert "without a cache" in caplog.text


def test_a_full_disk_is_a_warning_and_leaves_no_file(file, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        arrays = cached("set", fingerprint(stamps([file])), Maker(values=100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(arrays["images"]) == 100_000
    assert "without a cache" in caplog.text
    assert list(image_cache().iterdir()) == []


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from resnet_jax.data.reading.cache import cached, fingerprint, stamps

class Deadly(np.ndarray):
    def tofile(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

cached("set", fingerprint(stamps([Path(sys.argv[1])])), lambda: {"a": np.arange(6), "b": np.arange(6).view(Deadly)})
"""


def test_a_cache_that_a_killed_process_was_writing_is_not_used(file):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(file)])
    assert killed.returncode == -signal.SIGKILL
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    assert make.calls == 1


def test_the_files_of_a_killed_run_are_removed_after_an_hour(file):
    left = image_cache() / "set-0.x.tmp"
    left.mkdir(parents=True)
    os.utime(left, (time.time() - 4000,) * 2)
    cached("set", fingerprint(stamps([file])), Maker())
    assert not left.exists()


def test_the_least_recently_used_sets_are_removed_for_a_new_one(monkeypatch):
    for age, name in ((30, "oldest"), (20, "used"), (10, "kept")):
        cached(name, "0", Maker(1000))
        os.utime(image_cache() / f"{name}-0", (time.time() - age,) * 2)
    cached("used", "0", Maker(1000))
    monkeypatch.setattr(cache, "LIMIT_BYTES", 4500)
    cached("new", "0", Maker(1000))
    assert {path.name for path in image_cache().iterdir()} == {"used-0", "kept-0", "new-0"}


def test_a_set_larger_than_the_limit_is_kept_while_it_is_new(monkeypatch):
    monkeypatch.setattr(cache, "LIMIT_BYTES", 10)
    make = Maker()
    for _ in range(2):
        cached("set", "0", make)
    assert make.calls == 1


def test_a_symbolic_link_that_moves_has_another_stamp(file, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.symlink_to(file)
    before = stamps([first])
    first.rename(second)
    assert stamps([second]) != before


def flip(path: Path) -> None:
    """Flip the last bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def save_other_shape(path: Path) -> None:
    np.save(path, np.arange(5, dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(("images.npy", "labels.npy"), (flip, save_other_shape, Path.unlink)),
        *itertools.product(("checksums.json",), (flip, Path.unlink)),
    ],
)
def test_a_damaged_cache_is_made_again_with_a_warning(file, caplog, damage, name):
    make = Maker()
    cached("set", fingerprint(stamps([file])), make)
    (damaged,) = image_cache().glob(f"*/{name}")
    damage(damaged)
    arrays = cached("set", fingerprint(stamps([file])), make)
    np.testing.assert_array_equal(arrays["images"], np.arange(6))
    np.testing.assert_array_equal(arrays["labels"], np.arange(2))
    assert make.calls == 2 and caplog.text.count("is damaged") == 1
    cached("set", fingerprint(stamps([file])), make)
    assert make.calls == 2
