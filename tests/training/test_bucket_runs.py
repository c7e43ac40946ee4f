"""Runs of `python train.py` in an object store: killed, resumed, read by the commands, and of two processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from object_store import free_port, names, s3_store, steps

from resnet_jax.commands.evaluate import evaluate
from resnet_jax.commands.show import show
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.runs.fetching import fetched
from resnet_jax.runs.folder import read_metrics, read_summary
from resnet_jax.runs.stored import read_evaluated

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
TIMES = ("seconds", "images_per_second", "waiting_share")


class Trainer:
    """Starts `python train.py` on the digits with a tiny network, 4 epochs of 22 steps."""

    def __init__(self, data: Path, caches: Path):
        self.data, self.caches = data, caches

    def start(self, workdir: str | Path, host: str, *options: str, devices: int = 2) -> subprocess.Popen:
        """Start a process; `host` has its own disk for copies, and this is all that it shares with none."""
        command = [
            *(sys.executable, "train.py", "--config", "configs/digits.py", "--data.dir", str(self.data)),
            *("--model.width", "4", "--train.epochs", "4", "--train.batch-size", "64", "--data.val-fraction", "0.1"),
            *("--workdir", str(workdir), *options),
        ]
        env = os.environ | {"XDG_CACHE_HOME": str(self.caches / host), "JAX_NUM_CPU_DEVICES": str(devices)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=pipe, stderr=pipe, text=True)

    def run(self, workdir: str | Path, host: str) -> str:
        """Run to the end; return what is printed."""
        return ended(self.start(workdir, host))


def ended(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0 and err == "", err
    return out


def wait_for_checkpoint(url: str, process: subprocess.Popen) -> None:
    """Wait until a checkpoint is complete in the bucket."""
    while not steps(url):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def store():
    with s3_store() as url:
        yield url


@pytest.fixture(scope="module")
def trainer(store, tmp_path_factory):
    data, caches = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches / "here"))
        load(open_tfds("digits", data), None)
        yield Trainer(data, caches)


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """Return the folder of an undisturbed run on a disk."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    trainer.run(workdir, "one")
    return workdir


@pytest.fixture(scope="module")
def killed(store, trainer):
    """Return the address of a run that was killed once, and what it printed when it was repeated on another host."""
    url = f"{store}/killed"
    process = trainer.start(url, "one")
    wait_for_checkpoint(url, process)
    process.kill()
    process.communicate()
    assert "summary.json" not in names(url)
    return url, trainer.run(url, "two")


def figures(folder: Path) -> list[dict]:
    """Return summary and lines of a run, without times."""
    everything = [read_summary(folder), *read_metrics(folder)]
    return [{name: value for name, value in each.items() if name not in TIMES} for each in everything if each]


def weights(folder: Path) -> dict[str, bytes]:
    leaves = jax.tree.leaves_with_path(read_evaluated(folder / "checkpoints").state)
    return {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in leaves}


def test_a_run_that_was_killed_ends_on_another_host_as_an_undisturbed_one_bit_for_bit(killed, whole):
    url, printed = killed
    assert "resuming from step" in printed and f"run folder {url}" in printed and "caches" not in printed
    with fetched(url, weights=False) as copy:
        assert figures(copy) == figures(whole)
        assert {path.name for path in copy.iterdir()} >= {"config.json", "confusion.png", "curves.png", "mistakes.csv"}
        assert len(json.loads((copy / "environment.json").read_text())) == 2
    with fetched(url, weights=True) as copy:
        assert weights(copy) == weights(whole)


def test_a_finished_run_is_not_trained_again(killed, trainer):
    assert f"the run in {killed[0]} has finished" in trainer.run(killed[0], "three")


def test_commands_read_a_run_in_a_bucket_as_one_on_a_disk(killed, whole, tmp_path, capsys):
    url, _ = killed
    shown, evaluated = [], []
    for run in (url, str(whole)):
        show((Path(run),), out=tmp_path / "runs.png")
        shown.append("complete" in capsys.readouterr().out)
        evaluate(run, json=True)
        evaluated.append(json.loads(capsys.readouterr().out) | {"model": "it"})
    assert shown == [True, True] and evaluated[0] == evaluated[1]


def test_processes_without_a_common_disk_train_as_one_and_go_on_after_a_kill(store, trainer, tmp_path):
    short = ("--train.epochs", "2")

    def start(workdir: str) -> list[subprocess.Popen]:
        address = ("--distributed.coordinator", f"127.0.0.1:{free_port()}", "--distributed.process-count", "2")
        return [
            trainer.start(
                workdir, f"host {index}", *address, "--distributed.process-index", str(index), *short, devices=1
            )
            for index in range(2)
        ]

    url = f"{store}/two"
    first, second = start(url)
    wait_for_checkpoint(url, first)
    second.kill()
    first.communicate(timeout=100)
    second.communicate()
    printed = [process.communicate(timeout=300) for process in start(url)]
    assert "resuming from step" in printed[0][0] and "test accuracy" in printed[0][0], printed
    with fetched(url, weights=False) as copy:
        assert {line["epoch"] for line in read_metrics(copy)} == {0, 1} and read_summary(copy)["steps"] == 40
