"""A run whose images are streamed: from its first lines to the evaluation of its network."""

import io
import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from resnet_jax.commands.evaluate import evaluate
from resnet_jax.config import Config
from resnet_jax.data.encoded import EncodedSplit
from resnet_jax.data.streamed_batches import StreamedBatches
from resnet_jax.errors import UsageError
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.recipe import load_config
from resnet_jax.training import loop
from resnet_jax.training.images import read_images, workers_for
from resnet_jax.training.report import advise
from resnet_jax.training.setup import assemble

REPO = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Return 200 training and 40 test images of two classes, bright and dark, 40x30; one is not readable."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 100), ("test", 20)):
        for level, name in enumerate(("dark", "bright")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 128, (30, 40, 3)) + 127 * level
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number:03}.jpg")
    (folder / "train" / "dark" / "007.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture
def config(photos) -> Config:
    """Return the recipe for Imagenette with small images and a small network, two epochs of 12 steps."""
    recipe = load_config(Path("configs/imagenette.py"))
    return replace(
        recipe,
        model=replace(recipe.model, stem="cifar", width=2),
        data=replace(recipe.data, dir=photos, image_size=16, resize=20, workers=0),
        optimizer=replace(recipe.optimizer, peak_learning_rate=0.05),
        train=replace(recipe.train, epochs=2, batch_size=16),
        evaluate=replace(recipe.evaluate, every_epochs=2, batch_size=16),
    )


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(loop, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:1]))


@pytest.mark.slow  # a run and an evaluation
def test_a_streamed_run_says_so_and_evaluate_repeats_its_figures(config, tmp_path, one_device, capsys):
    console = Console(file=io.StringIO(), width=200)
    summary = loop.train(config, tmp_path / "run", console=console)
    shown = console.file.getvalue()
    assert summary["feed"] == "stream" and "feed: stream, as the configuration says" in shown
    assert "bright 100, dark 100" in shown and "limit" in shown and (tmp_path / "run" / "mistakes.png").exists()
    assert summary["test_images"] == 40 and 0 <= summary["waiting_share"] <= 1
    evaluate(str(tmp_path / "run"), json=True)
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] == summary["test_accuracy"]
    assert figures["loss"] == pytest.approx(summary["test_loss"], rel=1e-4)


def test_a_run_that_goes_on_within_an_epoch_ends_as_one_that_was_not_interrupted(config):
    mesh = make_mesh(16, jax.devices()[:1])
    runs = [assemble(config, read_images(config, mesh.devices.flat[0]), mesh) for _ in range(2)]
    first, start = runs[0]
    second = replace(runs[1][0], steps=first.steps)  # compiled once

    def train(run, state, begin, end):
        for call in loop.advance(run, jax.tree.map(jnp.copy, state), loop.zero_metrics(mesh), begin, end):
            state = call.state
        run.feed.close()
        return state

    through = train(first, start, 0, 18)
    resumed = train(second, train(first, start, 0, 7), 7, 18)
    jax.tree.map(np.testing.assert_array_equal, through.params, resumed.params)


SMALL_SHARED_MEMORY = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
OPTIONS = {
    **{
        "config": "configs/imagenette.py",
        "model.stem": "cifar",
        "model.width": 2,
        "optimizer.peak-learning-rate": 0.05,
    },
    **{"data.image-size": 16, "data.resize": 20, "data.workers": 1, "checkpoint.every-epochs": 1},
    **{"train.epochs": 20, "train.batch-size": 16, "evaluate.batch-size": 16, "evaluate.every-epochs": 20},
}


@pytest.mark.slow  # two processes
def test_full_shared_memory_ends_a_run_with_the_remedy_and_it_continues_from_its_last_checkpoint(photos, tmp_path):
    alone = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_SHARED_MEMORY, "-"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no user mount a file system of their own")
    options = OPTIONS | {"data.dir": photos, "workdir": tmp_path / "run"}
    command = [sys.executable, "train.py", *(str(it) for name, value in options.items() for it in (f"--{name}", value))]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([*alone, *command], cwd=REPO, text=True, **pipes) as process:
        while not list(tmp_path.glob("run/checkpoints/[0-9]*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        with Path(f"/proc/{process.pid}/root/dev/shm/filler").open("wb", buffering=0) as filler:
            while process.poll() is None:  # what one batch leaves is taken before the next one
                with suppress(OSError):
                    filler.write(bytes(4096))
                time.sleep(0.001)
        said = process.stderr.read()
    assert process.returncode == 1 and "Traceback" not in said
    assert "--shm-size" in said and "--data.workers 0" in said
    last = max(int(path.name) for path in tmp_path.glob("run/checkpoints/[0-9]*"))
    resumed = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0 and f"resuming from step {last}\n" in resumed.stdout, resumed.stderr


def test_an_evaluation_is_streamed_as_well(config):
    device = jax.devices()[0]
    run, _ = assemble(config, read_images(config, device), make_mesh(16, [device]))
    assert isinstance(run.dataset.test, EncodedSplit) and isinstance(run.evaluations["test"], StreamedBatches)
    assert run.info["resize"] == 20 and run.program.steps_per_call == 1


@pytest.mark.parametrize(("asked", "processes"), [(None, 0), (3, 3)])
def test_threads_decode_where_the_cpu_trains_unless_processes_are_asked_for(asked, processes):
    assert workers_for(asked, jax.devices("cpu")[0]).processes == processes


def test_crops_of_images_that_are_not_square_need_a_size(config):
    unsized = replace(config, data=replace(config.data, image_size=None, resize=None))
    with pytest.raises(UsageError, match=r"--data\.image-size"):
        read_images(unsized, jax.devices()[0])


@pytest.mark.parametrize(("waiting", "limit"), [(0.01, "devices"), (0.5, "host")])
def test_the_advice_names_what_limits_the_run(waiting, limit):
    advice = advise({"feed": "stream", "waiting_share": waiting})
    assert advice is not None and limit in advice and ("--data.workers" in advice) == (limit == "host")
    assert advise({"feed": "resident", "waiting_share": waiting}) is None
