"""Bits flipped at random in all files of a run that are read again: a wrong result never comes without a notice.

Not flipped are the files that are only written: TensorBoard's events, the pictures and the tables.
"""

import io
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.config import CheckpointConfig, Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from resnet_jax.data.memory import load
from resnet_jax.errors import UserError
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.recipe import load_config
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.folder import read_metrics
from resnet_jax.runs.logbook import Logbook
from resnet_jax.runs.opening import open_workdir
from resnet_jax.runs.reading import read_run
from resnet_jax.training import loop
from resnet_jax.training.images import open_source
from resnet_jax.training.interrupt import Interrupted
from resnet_jax.training.progress import Display
from resnet_jax.weights.torchvision import to_torchvision

CONFIG = Config(
    model=ModelConfig(width=4),
    optimizer=OptimizerConfig(peak_learning_rate=0.05),
    data=DataConfig(name="digits", val_fraction=0.1),
    train=TrainConfig(epochs=3, batch_size=128),
    checkpoint=CheckpointConfig(),
)
FLIPS = 40
"""Of each of the two runs."""
STEPS_PER_EPOCH = 10
WRITTEN_ONLY = ("tensorboard", ".png", ".csv", ".lock")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the folders of a run that was stopped in its third epoch and of the same run when it had finished."""
    assert jax.device_count() == 8  # starts JAX, after which a run leaves the number of devices alone
    stopped, finished = (tmp_path_factory.mktemp(name) / "run" for name in ("stopped", "finished"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", lambda batch_size: make_mesh(batch_size, jax.devices()[:1]))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        original = Display.running

        def running(self, epoch, step, sums):
            if step == 2 * STEPS_PER_EPOCH + 3:
                signal.raise_signal(signal.SIGTERM)
            original(self, epoch, step, sums)

        with patch.context() as at_step:
            at_step.setattr(Display, "running", running)
            with pytest.raises(Interrupted):
                loop.train(CONFIG, stopped, console=quiet())
        shutil.copytree(stopped, finished)
        loop.train(CONFIG, finished, console=quiet())
        yield stopped, finished


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


def bits(tree: Any) -> Any:
    """Return the leaves of a value by their paths, arrays as bytes, to be compared with ==."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, np.asarray(leaf).tobytes() if hasattr(leaf, "dtype") else leaf) for path, leaf in leaves]


def finished_results(workdir: Path) -> dict[str, Any]:
    """Return what `predict`, `evaluate`, `show`, `train --config RUN/config.json` and `train --workdir RUN` read."""
    return {
        "classifier": lambda: classifier(workdir),
        "shown": lambda: vars(read_run(workdir, 0, "run")),
        "recipe": lambda: load_config(workdir / "config.json"),
        "called again": lambda: loop.train(CONFIG, workdir, console=quiet()),
    }


def classifier(workdir: Path) -> Any:
    found = load_classifier(workdir)
    return bits((to_torchvision(found.model), found.class_names, vars(found.preprocessing), found.info))


def resumption(workdir: Path, run: loop.Run, fresh: loop.TrainState) -> Any:
    """Return what a resumed run goes on from: all else follows from it, as training is deterministic."""
    display = Display(quiet(), run.program.total_steps, 128)
    with open_workdir(workdir, CONFIG):
        checkpoints = Checkpoints(workdir / "checkpoints", keep=2, best=True)
        state, metrics, seconds = loop._resume(run, fresh, checkpoints, display)
        with Logbook(workdir, CONFIG, step=int(state.step), wandb_project=None):
            pass
        checkpoints.close()
    state = jax.tree.map(np.asarray, {**vars(state), "key": jax.random.key_data(state.key)})
    said = display.console.file.getvalue().splitlines()
    return bits((state, metrics, seconds)), read_metrics(workdir), said


def flipped(folder: Path, draw: random.Random) -> tuple[Path, bytes]:
    """Flip a bit of a file, any file of the folder with the same probability; return it and its intact content."""
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.stat().st_size
        and not any(part in str(path.relative_to(folder)) for part in WRITTEN_ONLY)
    )
    path = draw.choice(files)
    content = path.read_bytes()
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(changed)
    return path, content


def outcome(read: Callable[[], Any], caplog) -> tuple[Any, str]:
    """Return a result, or None, and what was said meanwhile."""
    caplog.clear()
    try:
        return read(), "\n".join(record.message for record in caplog.records if record.name.startswith("resnet_jax"))
    except UserError as error:
        return None, str(error)


def check(result: Any, intact: Any, said: str, path: Path, workdir: Path) -> None:
    """Fail unless the result is the intact one, or a notice names the file or its checkpoint."""
    if result == intact:
        return
    inside = path.relative_to(workdir).parts
    name = f"checkpoint {inside[1]}" if inside[0] == "checkpoints" else path.name
    assert name in said, f"{path}: {said or 'nothing was said'}"


@pytest.mark.slow  # half a minute
def test_no_flipped_bit_of_a_finished_run_gives_another_result_without_a_notice(runs, tmp_path, caplog):
    workdir, draw = tmp_path / "run", random.Random(0)
    shutil.copytree(runs[1], workdir)
    intact = {name: outcome(read, caplog)[0] for name, read in finished_results(workdir).items()}
    for _ in range(FLIPS):
        path, content = flipped(workdir, draw)
        for name, read in finished_results(workdir).items():
            result, said = outcome(read, caplog)
            check(result, intact[name], said, path, workdir)
        path.write_bytes(content)
        (workdir / "config.json").write_bytes((runs[1] / "config.json").read_bytes())
        (workdir / ".checksums").write_bytes((runs[1] / ".checksums").read_bytes())


@pytest.mark.slow  # half a minute
def test_no_flipped_bit_of_a_stopped_run_gives_another_resumption_without_a_notice(runs, tmp_path, caplog):
    draw, dataset = random.Random(1), load(open_source(CONFIG.data), None)
    run, fresh = loop.assemble(CONFIG, dataset, make_mesh(128, jax.devices()[:1]))
    shutil.copytree(runs[0], tmp_path / "intact")
    (*intact, said) = resumption(tmp_path / "intact", run, fresh)
    assert said == [f"resuming from step {2 * STEPS_PER_EPOCH + 3}"]
    for number in range(FLIPS):
        workdir = tmp_path / str(number)
        shutil.copytree(runs[0], workdir)
        path, _ = flipped(workdir, draw)
        result, logged = outcome(partial(resumption, workdir, run, fresh), caplog)
        *found, reported = result or (None, [])
        check(found, intact, "\n".join([logged, *reported]), path, workdir)
        shutil.rmtree(workdir)
