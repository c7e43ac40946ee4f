"""The stream feed: the same batches with any number of workers, processes and devices, and what it does with damage."""

import logging
import multiprocessing
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.choice import choose_feed, encoded, memory_of
from resnet_jax.data.dataset import Dataset
from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.feed import Feed
from resnet_jax.data.source import open_folder, open_tfds
from resnet_jax.data.stream import StreamFeed, training_batches
from resnet_jax.data.streamed_batches import StreamedBatches
from resnet_jax.data.workers import Workers
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.sharding import make_mesh

COUNT, SIZE, BATCH = 26, 6, 8
THREADS = Workers(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder of 26 training images and 13 test images, each of one gray level of its own."""
    path = tmp_path_factory.mktemp("images")
    for split, name, first in (("train", "a", 0), ("train", "b", 13), ("test", "a", 0), ("test", "b", 7)):
        (path / split / name).mkdir(parents=True)
        for number in range(first, first + (13 if split == "train" else 7 - first // 7)):
            Image.effect_noise((10, 8), number + 1).save(path / split / name / f"{number:02}.png")
    return path


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return encoded(open_folder(folder), SIZE)


def make_feed(dataset: Dataset, *, workers: int = 0, devices: int = 1, seed: int = 0, crop=(0.2, 1.0)) -> StreamFeed:
    mesh = make_mesh(BATCH, jax.devices()[:devices])
    return StreamFeed(dataset.train, batch_size=BATCH, seed=seed, crop_scale=crop, mesh=mesh, workers=Workers(workers))


def taken(feed: StreamFeed, first: int, end: int) -> list[list[np.ndarray]]:
    steps = [[np.asarray(array)[0] for array in feed.take(step, 1)] for step in range(first, end)]
    feed.close()
    return steps


def assert_same(actual: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> None:
    for one, other in zip(actual, expected, strict=True):
        for array, reference in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, reference)


@pytest.fixture(scope="module")
def steps(dataset) -> list[list[np.ndarray]]:
    """Return images, labels and places of the first two epochs, of three steps each."""
    return taken(make_feed(dataset), 0, 6)


def test_it_is_a_feed(dataset):
    assert isinstance(make_feed(dataset), Feed)


def test_an_epoch_has_each_image_at_most_once_and_each_epoch_another_order(steps):
    epochs = [np.concatenate([step[2] for step in steps[first : first + 3]]).tolist() for first in (0, 3)]
    assert all(len(set(places)) == 24 and min(places) >= 0 and max(places) < COUNT for places in epochs)
    assert epochs[0] != epochs[1]


def test_labels_are_those_of_the_images(steps):
    assert all((labels == (places >= 13)).all() for _, labels, places in steps)


def test_another_seed_gives_another_order_and_other_crops(dataset, steps):
    other = taken(make_feed(dataset, seed=1), 0, 1)
    assert (other[0][2] != steps[0][2]).any()


def test_an_image_is_cropped_differently_in_each_epoch(steps):
    first, second = (
        {int(place): image for step in part for image, place in zip(step[0], step[2], strict=True)}
        for part in (steps[:3], steps[3:])
    )
    both = first.keys() & second.keys()
    assert sum((first[place] != second[place]).any() for place in both) > len(both) // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(dataset, steps, workers):
    assert_same(taken(make_feed(dataset, workers=workers), 0, 5), steps[:5])


def test_batches_do_not_depend_on_the_number_of_devices(dataset, steps):
    assert_same(taken(make_feed(dataset, devices=8), 0, 6), steps)


@pytest.mark.parametrize("processes", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(dataset, steps, processes):
    parts = [training_batches(dataset.train, BATCH, 0, (0.2, 1.0), (part, processes)) for part in range(processes)]
    for step, (images, labels, places) in enumerate(steps):
        whole = [np.concatenate(arrays) for arrays in zip(*(part[step][:3] for part in parts), strict=True)]
        assert_same([whole], [[images, labels, places]])


def test_a_run_that_starts_within_an_epoch_gets_the_batches_of_one_that_was_not_interrupted(dataset, steps):
    assert_same(taken(make_feed(dataset), 4, 6), steps[4:])


def test_several_steps_at_once_are_the_steps_one_by_one(dataset, steps):
    feed = make_feed(dataset)
    for first, count in ((0, 2), (2, 1), (3, 2)):
        arrays = [np.asarray(array) for array in feed.take(first, count)]
        assert_same([list(each) for each in zip(*arrays, strict=True)], steps[first : first + count])
    feed.close()


def test_a_closed_feed_starts_again(dataset, steps):
    feed = make_feed(dataset)
    assert_same(taken(feed, 0, 2) + taken(feed, 2, 3), steps[:3])


def test_without_crops_the_images_are_those_of_an_evaluation(dataset):
    for images, _, places in taken(make_feed(dataset, crop=None), 0, 2):
        np.testing.assert_array_equal(images, [dataset.train.image(int(place)) for place in places])


@pytest.mark.parametrize("stored", [{"kind": "resident"}, {}])  # the second of a version with that feed alone
def test_a_run_of_another_feed_is_not_continued(dataset, stored):
    with pytest.raises(UserError, match="resident"):
        make_feed(dataset).restore(stored)


@pytest.mark.parametrize("devices", [1, 8])
def test_an_evaluation_counts_every_image_once_in_its_order(dataset, devices):
    mesh = make_mesh(8, jax.devices()[:devices])
    batches = StreamedBatches(dataset.test, batch_size=8, workers=THREADS, mesh=mesh)
    images, labels, mask = (np.concatenate([np.asarray(it) for it in each]) for each in zip(*batches, strict=True))
    np.testing.assert_array_equal(images[mask], [dataset.test.image(index) for index in range(13)])
    np.testing.assert_array_equal(labels[mask], dataset.test.labels)
    assert len(batches) == 2 and mask.tolist() == [True] * 13 + [False] * 3


# ---- Damage


@pytest.fixture
def damaged(tmp_path) -> Dataset:
    """Return 200 images of one class and 5 of another, of which the third of the first is not readable."""
    for name, count in (("a", 200), ("b", 5)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("L", (4, 4), number).save(tmp_path / name / f"{number:03}.png")
    found = encoded(open_folder(tmp_path, hold_out=False), 4)
    (tmp_path / "a" / "002.png").write_bytes(b"no image")
    return replace(found, train=found.test)


def test_an_unreadable_image_is_replaced_by_the_same_one_each_time_and_named_once(damaged, caplog):
    caplog.set_level(logging.WARNING)
    first, second = (taken(make_feed(damaged, crop=None), 0, 50) for _ in range(2))  # two epochs of 25 steps
    assert_same(first, second)
    assert 2 not in np.concatenate([places for _, _, places in first])
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2 and all("002.png" in line and "1 of 205" in line for line in named)  # once for each feed


def test_a_run_stops_if_more_than_a_hundredth_of_the_images_is_unreadable(damaged):
    for number in (5, 6):
        Path(damaged.train.origin(number)).write_bytes(b"")
    feed = make_feed(damaged, crop=None)
    with pytest.raises(UserError, match=r"00\d\.png.*3 of 205.*restore"):
        taken(feed, 0, 50)
    feed.close()


def test_an_unreadable_image_does_not_count_in_an_evaluation(damaged):
    batches = StreamedBatches(damaged.test, batch_size=50, workers=THREADS)
    mask = np.concatenate([batch.mask for batch in batches])
    assert np.flatnonzero(~mask[:205]).tolist() == [2] and mask.sum() == 204


def test_statistics_are_those_of_a_sample_without_the_unreadable_images(damaged):
    mean, std = damaged.statistics()
    every = np.stack([damaged.train.image(index) for index in range(205) if index != 2]) / 255
    np.testing.assert_allclose(mean, every.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, every.std((0, 1, 2)), rtol=1e-5)


def test_the_sample_is_evenly_spaced_over_the_split(damaged, monkeypatch):
    monkeypatch.setattr("resnet_jax.data.encoded.SAMPLE", 5)
    np.testing.assert_array_equal(damaged.train.sample()[:, 0, 0, 0], [0, 41, 82, 123, 164])


@pytest.fixture(params=["missing", "truncated"])
def damaged_shard(request, tmp_path) -> Dataset:
    """Return the digits, of whose training images the only shard is missing or cut to its half."""
    source = open_tfds("digits", tmp_path)
    (shard,) = (path for path in source.files if "train" in path.name)
    if request.param == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    return encoded(open_tfds("digits", tmp_path), 8)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_shard_is_an_error_that_names_its_folder(damaged_shard, tmp_path, workers):
    feed = make_feed(damaged_shard, workers=workers)
    with pytest.raises(UserError, match=rf"train image \d+ of {tmp_path}.*prepare or copy it again"):
        feed.take(0, 1)
    feed.close()


def test_statistics_of_a_damaged_shard_are_the_same_error(damaged_shard, tmp_path):
    with pytest.raises(UserError, match=rf"train image 0 of {tmp_path}.*prepare or copy it again"):
        damaged_shard.statistics()


def test_a_killed_worker_is_an_error_with_the_remedy(dataset):
    feed = make_feed(dataset, workers=1)
    feed.take(0, 1)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError, match=r"--data\.workers 0"):
        for step in range(1, 9):
            feed.take(step, 1)
    feed.close()


START = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
import jax
from resnet_jax.data.choice import encoded
from resnet_jax.data.source import open_folder
from resnet_jax.data.stream import StreamFeed
from resnet_jax.data.streamed_batches import StreamedBatches
from resnet_jax.data.workers import Workers
from resnet_jax.hardware.sharding import make_mesh

def main():
    dataset = encoded(open_folder(Path(sys.argv[1])), 6)
    mesh = make_mesh(8, jax.devices()[:1])
    feed = StreamFeed(dataset.train, batch_size=8, seed=0, crop_scale=None, mesh=mesh, workers=Workers(2))
    feed.take(0, 1)
    feed.take(1, 1)  # both workers have begun
"""
KILLED = """
    workers = [process.pid for process in multiprocessing.active_children()]
    for pid in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    for step in range(2, 12):
        feed.take(step, 1)
    print(*workers, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
CLOSED = """
    assert sum(batch.mask.sum() for batch in StreamedBatches(dataset.test, batch_size=4, workers=Workers(2))) == 13
    feed.close()
    time.sleep(1)  # Grain frees the last batch in a thread
    print(len(multiprocessing.active_children()), sum("grain" in thread.name for thread in threading.enumerate()))
"""


def run_script(path: Path, folder: Path, body: str) -> subprocess.CompletedProcess:
    path.write_text(f'{START}{body}\nif __name__ == "__main__":\n    main()\n')
    command = [sys.executable, str(path), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def test_closing_leaves_no_process_thread_or_shared_memory(folder, tmp_path):
    child = run_script(tmp_path / "closed.py", folder, CLOSED)
    assert (child.returncode, child.stdout) == (0, "0 0\n")
    assert child.stderr == ""  # where Python tells of leaked shared memory


def test_workers_leave_signals_to_the_training_process_and_end_when_it_is_killed(folder, tmp_path):
    child = run_script(tmp_path / "killed.py", folder, KILLED)
    assert child.returncode == -signal.SIGKILL, child.stderr
    workers = [Path("/proc", pid) for pid in child.stdout.split()]
    assert len(workers) == 2
    for _ in range(100):
        if not any(path.exists() for path in workers):
            return
        time.sleep(0.1)
    pytest.fail("the workers still run")


def test_images_of_different_sizes_need_a_size(tmp_path):
    for name, size in (("a", 4), ("b", 5)):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (size, size)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(UserError, match=r"5x5.*4x4.*--data\.image-size"):
        taken(make_feed(encoded(open_folder(tmp_path), None), crop=None), 0, 2)


# ---- Choice


@pytest.mark.parametrize(("share", "feed"), [(0.2, "resident"), (0.3, "stream")])
def test_images_stay_in_memory_if_they_take_less_than_a_quarter_of_it(dataset, share, feed):
    device, count = jax.devices()[0], dataset.train.num_images + dataset.test.num_images
    size = int((share * memory_of(device) / (3 * count)) ** 0.5)
    large = {name: replace(getattr(dataset, name), image_size=size) for name in ("train", "test")}
    chosen, reason = choose_feed(replace(dataset, **large), None, device, crops=False)
    assert chosen == feed and f"{3 * count * size**2 / 1e6:,.0f} MB" in reason and feed in reason


@pytest.mark.parametrize("feed", ["resident", "stream"])
def test_the_configuration_may_choose_the_feed(dataset, feed):
    assert choose_feed(dataset, feed, jax.devices()[0], crops=False)[0] == feed


def test_random_crops_need_the_stream(dataset):
    assert choose_feed(dataset, None, jax.devices()[0], crops=True)[0] == "stream"
    with pytest.raises(UsageError, match=r"--augment\.crop-scale.*--data\.feed resident"):
        choose_feed(dataset, "resident", jax.devices()[0], crops=True)


def test_a_share_of_encoded_images_is_held_out_as_of_decoded_ones(dataset):
    held = dataset.hold_out(0.25)
    assert isinstance(held.train, EncodedSplit) and isinstance(held.val, EncodedSplit)
    assert np.bincount(held.val.labels).tolist() == [3, 3] and held.train.num_images == 20
    np.testing.assert_array_equal(held.val.image(0), dataset.train.image(int(held.val.indices[0])))


def test_a_share_is_held_out_also_if_only_the_records_have_the_labels(dataset):
    unlabeled = replace(dataset, train=replace(dataset.train, labels=None)).hold_out(0.25)
    assert unlabeled.val.num_images == 6 and not set(unlabeled.val.indices) & set(unlabeled.train.indices)
