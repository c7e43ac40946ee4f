"""Whole runs of `python train.py`: real data, real processes, real signals."""

import errno
import io
import json
import os
import pty
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh
from PIL import Image
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event

from resnet_jax.commands.convert import convert as convert_command
from resnet_jax.commands.evaluate import evaluate as evaluate_command
from resnet_jax.commands.export import export as export_command
from resnet_jax.commands.predict import predict as predict_command
from resnet_jax.config import Config, ModelConfig
from resnet_jax.data.memory import load
from resnet_jax.data.reading.prepared import read_tfrecord
from resnet_jax.data.source import open_tfds
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.sharding import make_mesh, replicated
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.folder import read_metrics, read_summary
from resnet_jax.runs.logbook import Logbook
from resnet_jax.runs.opening import open_workdir
from resnet_jax.training import loop
from resnet_jax.training import summary as summary_module
from resnet_jax.training.evaluation import evaluate
from resnet_jax.training.images import open_source
from resnet_jax.training.interrupt import Interrupted
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.progress import Display
from resnet_jax.training.setup import assemble
from resnet_jax.training.state import TrainState

REPO = Path(__file__).parents[2]
STEPS_PER_EPOCH = 1437 // 16
LAST = 4 * STEPS_PER_EPOCH
TIMES = ("seconds", "images_per_second", "waiting_share")


@dataclass(frozen=True)
class Trainer:
    """Runs `python train.py` on the digits with a tiny network, 4 epochs of 89 steps."""

    data: Path
    env: dict[str, str]

    def command(self, workdir: Path, *options: str) -> list[str]:
        return [
            *(sys.executable, "train.py", "--config", "configs/digits.py", "--data.dir", str(self.data)),
            *("--model.width", "4", "--train.epochs", "4", "--train.batch-size", "16", "--train.ema-decay", "0.99"),
            *("--evaluate.every-epochs", "2", "--workdir", str(workdir), *options),
        ]

    def run(self, workdir: Path, *options: str) -> subprocess.CompletedProcess:
        command = self.command(workdir, *options)
        return subprocess.run(command, cwd=REPO, env=self.env, capture_output=True, text=True, timeout=300)

    def start(self, workdir: Path, *options: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(workdir, *options), cwd=REPO, env=self.env, stdout=pipe, stderr=pipe, text=True
        )

    def interrupt(self, workdir: Path, number: signal.Signals, *, after: str) -> subprocess.CompletedProcess:
        """Send a signal as soon as the output has a line that contains `after`."""
        with self.start(workdir) as process:
            assert process.stdout is not None
            shown = ""
            for line in process.stdout:
                shown += line
                if after in line:
                    break
            process.send_signal(number)
            out, err = process.communicate(timeout=300)
            return subprocess.CompletedProcess(process.args, process.returncode, shown + out, err)

    def config(self) -> Config:
        """Return the configuration that `command` gives on the command line."""
        recipe = runpy.run_path(str(REPO / "configs/digits.py"))["get_config"]()
        return replace(
            recipe,
            model=ModelConfig(width=4),
            data=replace(recipe.data, dir=self.data),
            train=replace(recipe.train, epochs=4, batch_size=16, ema_decay=0.99),
            evaluate=replace(recipe.evaluate, every_epochs=2),
        )

    def quick_config(self, **train) -> Config:
        """Return a configuration of two epochs (44 steps), for runs inside the test process."""
        config = self.config()
        return replace(config, train=replace(config.train, **{"epochs": 2, "batch_size": 64} | train))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    data, caches = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("caches")
    assert jax.device_count() == 8  # starts JAX; after that, a run does not change the number of devices
    compiled = {"jax_compilation_cache_dir": str(caches), "jax_persistent_cache_min_compile_time_secs": 0}
    before = {name: getattr(jax.config, name) for name in compiled}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches))
        load(open_tfds("digits", data), None)
        set_options(compiled)
        yield Trainer(data, os.environ | {name.upper(): str(value) for name, value in compiled.items()})
        set_options(before)


def set_options(options: dict) -> None:
    """Set options of JAX, and reset the compilation cache, which reads its options only once."""
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def one_device_mesh(batch_size: int) -> Mesh:
    return make_mesh(batch_size, jax.devices()[:1])


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Use one device for runs inside the test process: XLA compiles faster for one than for eight."""
    monkeypatch.setattr(loop, "make_mesh", one_device_mesh)


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """Return the folder and the process of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, trainer.run(workdir)


@dataclass(frozen=True)
class Broken:
    """A run that was killed and interrupted before it completed."""

    workdir: Path
    stopped: Path
    """Copy of its folder after the last interruption."""
    killed: subprocess.CompletedProcess
    sigint: subprocess.CompletedProcess
    completed: subprocess.CompletedProcess


@pytest.fixture(scope="module")
def broken(trainer, whole, tmp_path_factory):  # after `whole`, which fills the compilation cache
    workdir, stopped = tmp_path_factory.mktemp("broken") / "run", tmp_path_factory.mktemp("stopped") / "run"
    killed = trainer.interrupt(workdir, signal.SIGKILL, after="epoch 1/4")
    sigint = trainer.interrupt(workdir, signal.SIGINT, after="epoch 3/4")
    shutil.copytree(workdir, stopped)
    return Broken(workdir, stopped, killed, sigint, trainer.run(workdir))


def timeless(figures: dict) -> dict:
    return {key: value for key, value in figures.items() if key not in TIMES}


def final_state(config: Config, workdir: Path) -> dict:
    """Return the state in the last checkpoint."""
    mesh = one_device_mesh(config.train.batch_size)
    _, fresh = assemble(config, load(open_source(config.data), config.data.image_size), mesh)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2, best=False)
    like = {"train": vars(fresh), "metrics": vars(TrainMetrics.zero())}
    restored = checkpoints.restore(like, replicated(mesh), pytest.fail)
    checkpoints.close()
    assert restored is not None
    return restored.state


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def signal_at(monkeypatch, step: int, number: signal.Signals) -> None:
    """Send a signal to this process when a run has taken `step` steps."""
    original = Display.running

    def running(self, epoch, now, sums):
        if now == step:
            signal.raise_signal(number)
        original(self, epoch, now, sums)

    monkeypatch.setattr(Display, "running", running)


def test_a_complete_run_exits_with_0_and_prints_nothing_to_stderr(whole):
    _, process = whole
    assert process.returncode == 0 and process.stderr == ""


def test_a_run_writes_its_configuration_and_its_environment(whole, trainer):
    workdir, _ = whole
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["width"] == 4 and config["data"]["dir"] == str(trainer.data)
    (environment,) = json.loads((workdir / "environment.json").read_text())
    assert environment["backend"] == "cpu" and len(environment["devices"]) == 1


def test_the_metrics_have_a_json_line_for_each_epoch_and_each_evaluation(whole):
    lines = [json.loads(line) for line in (whole[0] / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"], line["split"]) for line in lines] == [
        (STEPS_PER_EPOCH, 0, "train"),
        (2 * STEPS_PER_EPOCH, 1, "train"),
        (2 * STEPS_PER_EPOCH, 1, "test"),
        (3 * STEPS_PER_EPOCH, 2, "train"),
        (LAST, 3, "train"),
        (LAST, 3, "test"),
    ]
    assert all(0 <= line["accuracy"] <= 1 and line["loss"] > 0 for line in lines)


def test_tensorboard_gets_every_figure_of_the_metrics(whole):
    workdir, _ = whole
    (file,) = (workdir / "tensorboard").iterdir()
    events = [Event.FromString(record) for record in read_tfrecord(file)]
    board = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    for line in read_metrics(workdir):
        for key, value in line.items():
            if isinstance(value, float):
                assert board.pop((line["step"], f"{line['split']}/{key}")) == pytest.approx(value, rel=1e-6)
    assert board == {}


def test_the_summary_has_the_figures_of_the_run(whole):
    summary = read_summary(whole[0])
    assert summary is not None
    assert 0.3 < summary["test_accuracy"] <= 1 and 0 < summary["test_loss"] < 3
    assert summary["test_images"] == 360 and summary["steps"] == LAST and summary["parameters"] == 44_622
    assert 0 < summary["seconds"] < 300 and summary["images_per_second"] > 0


@pytest.mark.parametrize("picture", ["curves.png", "confusion.png", "mistakes.png"])
def test_the_pictures_can_be_opened(whole, picture):
    with Image.open(whole[0] / picture) as image:
        image.load()
        assert min(image.size) >= 300


def test_without_a_terminal_the_output_is_plain_lines(whole):
    text = whole[1].stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("epoch")] == [
        f"epoch {number}/4" for number in (1, 2, 3, 4)
    ]


def test_ctrl_c_gives_the_usual_exit_code(broken):
    assert (broken.killed.returncode, broken.sigint.returncode, broken.completed.returncode) == (-9, 130, 0)


def test_an_interrupted_run_prints_how_to_continue(broken):
    message = broken.sigint.stderr.splitlines()[-1]
    assert re.fullmatch(r"stopped and saved at step \d+; to continue, repeat the command with --workdir .*", message)
    assert message.endswith(str(broken.workdir))
    assert "Traceback" not in broken.sigint.stderr


def test_a_resumed_run_continues_from_the_saved_step(broken):
    saved = re.search(r"saved at step (\d+)", broken.sigint.stderr)
    assert saved and f"resuming from step {saved[1]}\n" in broken.completed.stdout


def test_without_a_terminal_a_line_says_that_the_step_is_being_compiled(whole):
    lines = whole[1].stdout.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("compiling"))
    assert "steps to go" in lines[place - 1] and all("epoch 1/4" not in line for line in lines[:place])


def test_an_interrupted_run_gives_the_same_state_bit_for_bit(trainer, whole, broken):
    expected, got = (final_state(trainer.config(), workdir) for workdir in (whole[0], broken.workdir))
    assert expected["train"]["step"] == LAST
    leaves, treedef = jax.tree_util.tree_flatten_with_path(expected)
    assert jax.tree.structure(got) == treedef
    for (path, a), b in zip(leaves, jax.tree.leaves(got), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


def test_the_environment_file_has_every_start_of_a_run(broken):
    starts = json.loads((broken.workdir / "environment.json").read_text())
    assert len(starts) == 3 and all("train.py" in start["command"][0] for start in starts)


def test_an_interrupted_run_gives_the_same_metrics_and_summary(whole, broken):
    expected, got = ([timeless(line) for line in read_metrics(workdir)] for workdir in (whole[0], broken.workdir))
    assert got == expected
    assert timeless(read_summary(broken.workdir)) == timeless(read_summary(whole[0]))


@pytest.mark.slow  # two runs
def test_sigterm_within_an_epoch_saves_the_current_step(trainer, tmp_path, monkeypatch):
    signal_at(monkeypatch, 30, signal.SIGTERM)
    with pytest.raises(Interrupted, match="at step 30;") as caught:
        loop.train(trainer.quick_config(), tmp_path, console=quiet())
    assert caught.value.exit_code == 143
    console = quiet()
    summary = loop.train(trainer.quick_config(), tmp_path, console=console)
    assert "resuming from step 30\n" in shown(console) and "epoch 1/2" not in shown(console)
    assert summary["steps"] == 44


@pytest.mark.slow  # three runs in two programs
def test_many_steps_per_call_learn_like_single_steps_and_a_run_resumes_bit_for_bit(trainer, tmp_path, monkeypatch):
    """Accelerators take many steps per call. Here the 22 steps of an epoch are calls of 8, 8 and 6."""
    config, original = trainer.quick_config(), loop.assemble
    loop.train(config, tmp_path / "single", console=quiet())

    def assemble_many(config, dataset, mesh):
        run, state = original(config, dataset, mesh)
        return replace(run, program=replace(run.program, steps_per_call=8)), state

    monkeypatch.setattr(loop, "assemble", assemble_many)
    loop.train(config, tmp_path / "many", console=quiet())
    with monkeypatch.context() as patch:
        signal_at(patch, 30, signal.SIGTERM)
        with pytest.raises(Interrupted, match="at step 30;"):
            loop.train(config, tmp_path / "broken", console=quiet())
    loop.train(config, tmp_path / "broken", console=quiet())
    single, whole, broken = (
        [timeless(line) for line in read_metrics(tmp_path / name)] for name in ("single", "many", "broken")
    )
    assert broken == whole
    assert whole[0]["loss"] == pytest.approx(single[0]["loss"], rel=0.05)  # measured: 0.013


@pytest.fixture
def sighup():
    """Return a function that sets what SIGHUP does, until the test ends."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda handler: signal.signal(signal.SIGHUP, handler)
    signal.signal(signal.SIGHUP, before)


def test_sighup_saves_like_sigterm(trainer, tmp_path, monkeypatch, sighup):
    sighup(signal.SIG_DFL)
    signal_at(monkeypatch, 3, signal.SIGHUP)
    with pytest.raises(Interrupted, match="at step 3;") as caught:
        loop.train(trainer.quick_config(), tmp_path, console=quiet())
    assert caught.value.exit_code == 129


@pytest.mark.slow  # a process
def test_sighup_is_ignored_if_it_was_before_as_under_nohup(trainer, tmp_path, monkeypatch, sighup):
    sighup(signal.SIG_IGN)
    signal_at(monkeypatch, 3, signal.SIGHUP)
    assert loop.train(trainer.quick_config(), tmp_path, console=quiet())["steps"] == 44


@pytest.mark.slow  # a process
def test_a_run_trains_outside_the_main_thread(trainer, tmp_path):
    with ThreadPoolExecutor() as pool:
        summary = pool.submit(loop.train, trainer.quick_config(), tmp_path, console=quiet()).result()
    assert summary["steps"] == 44


def test_a_run_completes_without_a_picture_that_cannot_be_drawn(trainer, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no such font")

    monkeypatch.setattr(summary_module, "draw_mistakes", fail)
    console = quiet()
    summary = loop.train(trainer.quick_config(), tmp_path, console=console)
    assert read_summary(tmp_path) == summary and "mistakes.png could not be" in shown(console)
    assert all((tmp_path / name).exists() for name in ("curves.png", "confusion.csv", "mistakes.csv"))


@pytest.mark.slow  # a process
def test_a_second_ctrl_c_ends_the_run_at_once(trainer, tmp_path, whole):
    with trainer.start(tmp_path / "run") as process:
        while "steps to go" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGSTOP)  # so that SIGINT and SIGCONT are both pending when Python handles signals
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert "second signal" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err


@pytest.mark.slow  # a process
def test_ctrl_c_while_the_run_is_set_up_prints_no_traceback(trainer, tmp_path):
    with trainer.start(tmp_path / "run") as process:
        while not (tmp_path / "run").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in err and "Traceback" not in err


@pytest.mark.parametrize("module", ["tyro", "jaxlib"])
def test_ctrl_c_while_modules_are_imported_ends_the_command_without_a_traceback(trainer, tmp_path, module):
    """A KeyboardInterrupt inside them ends in an ImportError, or aborts the process."""
    command = [sys.executable, "-X", "importtime", *trainer.command(tmp_path / "run")[1:]]
    with subprocess.Popen(command, cwd=REPO, env=trainer.env, stderr=subprocess.PIPE, text=True) as process:
        while module not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped" in err and "Traceback" not in err


@pytest.mark.slow  # over five processes of about 5 s each
def test_kills_at_random_moments_do_not_change_the_results(trainer, tmp_path):
    options, moments, kills, runs = ("--train.epochs", "15"), random.Random(0), 0, []
    while kills < 5:
        if not runs or read_summary(runs[-1]):  # on a fast computer a run may complete; then the next one is killed
            runs.append(tmp_path / f"run{len(runs)}")
        with trainer.start(runs[-1], *options) as process:
            try:
                process.wait(timeout=moments.uniform(1, 7))
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            out, err = process.communicate()
            assert process.returncode in (0, -9), err
            assert "can't be read" not in out
    for workdir in (runs[-1], tmp_path / "whole"):
        assert trainer.run(workdir, *options).returncode == 0
    expected = timeless(read_summary(tmp_path / "whole")), [timeless(line) for line in read_metrics(tmp_path / "whole")]
    for workdir in runs:
        assert (timeless(read_summary(workdir)), [timeless(line) for line in read_metrics(workdir)]) == expected


@pytest.mark.slow  # one more training run
def test_a_truncated_newest_checkpoint_is_reported_and_the_previous_one_is_used(trainer, broken, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(broken.stopped, workdir)
    *_, before, newest = sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))
    for file in (workdir / "checkpoints" / str(newest) / "state").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    console = quiet()
    loop.train(trainer.config(), workdir, console=console)
    assert f"checkpoint {newest} in {workdir}/checkpoints" in shown(console)
    assert f"resuming from step {before}\n" in shown(console)


def test_starting_a_finished_run_again_shows_its_results_without_training(trainer, whole):
    workdir, process = whole
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"}
    console = Console(file=io.StringIO(), width=80)
    assert loop.train(trainer.config(), workdir, console=console) == read_summary(workdir)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    notice, results = shown(console).split("\n", 1)
    assert "has finished: nothing is trained" in notice
    assert "epoch" not in results and process.stdout.endswith(results)


def test_another_configuration_in_the_same_folder_is_refused_with_the_differences(trainer, whole):
    other = trainer.quick_config(seed=7)
    with pytest.raises(UsageError) as caught:
        loop.train(other, whole[0], console=quiet())
    assert caught.value.exit_code == 2
    assert "(train.batch_size: 16 -> 64; train.epochs: 4 -> 2; train.seed: 0 -> 7)" in str(caught.value)


def test_a_second_process_in_the_same_folder_ends_with_one_message(trainer, tmp_path):
    with open_workdir(tmp_path, trainer.config()):
        second = trainer.run(tmp_path)
    assert second.returncode == 1
    assert second.stderr.startswith("error: another process is training in") and second.stderr.count("\n") == 1


@pytest.mark.slow  # compiles for eight devices; test_checkpoint.py has a quick test
def test_a_run_on_one_device_continues_on_eight(trainer, broken, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "make_mesh", make_mesh)
    shutil.copytree(broken.stopped, tmp_path / "run")
    console = quiet()
    summary = loop.train(trainer.config(), tmp_path / "run", console=console)
    assert "resuming from step" in shown(console) and "8 x cpu" in shown(console)
    expected = read_summary(broken.workdir)
    assert summary["steps"] == LAST
    assert summary["test_loss"] == pytest.approx(expected["test_loss"], rel=0.05)


@pytest.mark.slow  # two more processes; the test above is the cheaper direction
def test_a_run_on_eight_devices_continues_on_one(trainer, tmp_path, whole):
    eight = replace(trainer, env=trainer.env | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    first = eight.interrupt(tmp_path / "run", signal.SIGTERM, after="epoch 3/4")
    second = trainer.run(tmp_path / "run")
    assert "8 x cpu" in first.stdout and "1 x cpu" in second.stdout and "resuming from step" in second.stdout
    expected, got = (read_metrics(workdir)[0] for workdir in (whole[0], tmp_path / "run"))
    assert got["loss"] == pytest.approx(expected["loss"], rel=0.1)  # rounding errors grow with each step
    expected, got = (read_summary(workdir) for workdir in (whole[0], tmp_path / "run"))
    assert got["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.1)


@pytest.mark.slow  # two programs
def test_the_first_epochs_train_on_shrunk_images(trainer):
    config = trainer.quick_config()
    config = replace(config, augment=replace(config.augment, small_size=5, small_share=0.5))
    run, state = assemble(config, load(open_source(config.data), config.data.image_size), one_device_mesh(64))

    def side(step: int) -> int:
        make_steps = run.program.run_small_steps if step < 22 else run.program.run_steps
        (call,) = loop.advance(run, jax.tree.map(jax.numpy.copy, state), TrainMetrics.zero(), step, step + 1)
        jaxpr = jax.make_jaxpr(make_steps)(state, TrainMetrics.zero(), run.data, run.feed.take(0, 1))
        assert int(call.metrics.count) == 64
        return 5 if "f32[64,5,5,3]" in str(jaxpr) else 8

    assert (side(21), side(22)) == (5, 8)


@pytest.mark.parametrize("option", ["small_size", "crop_padding", "cutout"])
def test_an_augmentation_as_large_as_the_images_is_refused(trainer, option):
    config = trainer.quick_config()
    config = replace(config, augment=replace(config.augment, **{option: 8}))
    with pytest.raises(UsageError, match=rf"--augment.{option.replace('_', '-')}: got 8, .* 8 pixels"):
        assemble(config, load(open_source(config.data), config.data.image_size), one_device_mesh(64))


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(trainer, tmp_path):
    config = trainer.quick_config()
    config = replace(config, optimizer=replace(config.optimizer, peak_learning_rate=1e20))
    with pytest.raises(UserError, match=r"the loss of step \d+ is not a finite number; .* none was written") as caught:
        loop.train(config, tmp_path, console=quiet())
    assert caught.value.exit_code == 1 and "--optimizer.peak-learning-rate" in str(caught.value)


def change_params(monkeypatch, step: int, change) -> None:
    """Apply `change` to every parameter of a run after `step` steps."""
    original = loop.assemble

    def assemble_changed(config, dataset, mesh):
        run, state = original(config, dataset, mesh)

        def steps(state, *rest):
            state, metrics = run.steps(state, *rest)
            return (state if state.step != step else replace(state, params=jax.tree.map(change, state.params))), metrics

        return replace(run, steps=steps), state

    monkeypatch.setattr(loop, "assemble", assemble_changed)


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(trainer, tmp_path, monkeypatch):
    change_params(monkeypatch, 30, lambda values: values * np.nan)
    with pytest.raises(UserError, match=r"step 30 is not .*checkpoint: step 22 in "):
        loop.train(trainer.quick_config(), tmp_path, console=quiet())


def test_an_update_that_is_not_finite_is_not_saved(trainer, tmp_path, monkeypatch):
    """The loss of the last step of an epoch is computed before its update."""
    change_params(monkeypatch, 44, lambda values: values * np.nan)
    config = trainer.quick_config(epochs=3)  # epochs 1 and 3 are evaluated
    config = replace(config, evaluate=replace(config.evaluate, every_epochs=3))
    with pytest.raises(UserError, match=r"step 44 .*checkpoint: step 22 in "):
        loop.train(config, tmp_path, console=quiet())
    assert not (tmp_path / "checkpoints" / "44").exists()


FAILURES = [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")]


@pytest.mark.parametrize("failure", FAILURES)
def test_running_out_of_memory_for_the_data_names_the_data_and_not_the_batch(trainer, tmp_path, monkeypatch, failure):
    def assemble(config, dataset, mesh):
        raise failure

    monkeypatch.setattr(loop, "assemble", assemble)
    with pytest.raises(UserError, match=r"out of memory.*--data.image-size") as caught:
        loop.train(trainer.quick_config(), tmp_path, console=quiet())
    assert "batch-size" not in str(caught.value)


@pytest.mark.parametrize("failure", FAILURES)
def test_running_out_of_memory_in_a_step_names_the_batch(trainer, tmp_path, monkeypatch, failure):
    def advance(*_):
        raise failure
        yield

    monkeypatch.setattr(loop, "advance", advance)
    with pytest.raises(UserError, match=r"out of memory.*--train.batch-size is 64"):
        loop.train(trainer.quick_config(), tmp_path, console=quiet())


@pytest.mark.slow  # two processes
def test_a_full_disk_ends_in_one_message_and_the_same_command_continues(trainer, broken, tmp_path):
    shutil.copytree(broken.stopped, tmp_path / "run")
    env = trainer.env | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}  # the cache is read and not written
    command = ["bash", "-c", 'ulimit -f 20; exec "$@"', "-", *trainer.command(tmp_path / "run")]
    full = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=300)
    assert full.returncode == 1 and full.stderr.count("\n") == 1, full.stderr
    assert "can't write a checkpoint" in full.stderr
    summary = loop.train(trainer.config(), tmp_path / "run", console=quiet())
    assert summary["steps"] == LAST


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_between_checkpoints_ends_in_a_message(trainer, tmp_path, monkeypatch, number):
    def write(self, **values):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Logbook, "write", write)
    with pytest.raises(UserError, match=rf"can't write to .*: {os.strerror(number)}.*--workdir") as caught:
        loop.train(trainer.quick_config(), tmp_path, console=quiet())
    assert caught.value.exit_code == 1


@pytest.mark.slow  # two evaluations
def test_the_evaluation_is_the_same_at_any_batch_size(trainer, whole):
    workdir, _ = whole
    config, results = trainer.config(), []
    weights = TrainState(**final_state(config, workdir)["train"]).evaluated
    for batch_size in (7, 64, 360):
        sized = replace(config, evaluate=replace(config.evaluate, batch_size=batch_size))
        run, _ = assemble(sized, load(open_source(config.data), config.data.image_size), one_device_mesh(16))
        results.append(evaluate(run.eval_steps["none"], weights, run.evaluations["test"]))
    summary = read_summary(workdir)
    for result, guesses, places in results:
        assert places.tolist() == list(range(360)) and result.confusion.sum() == 360
        by_class = np.zeros_like(result.confusion)
        np.add.at(by_class, (guesses.labels, guesses.predicted), 1)
        np.testing.assert_array_equal(by_class, result.confusion)
        assert guesses.confidence.mean() == pytest.approx(result.bin_confidence.sum() / 360, rel=1e-5)
        assert result.accuracy == summary["test_accuracy"]
        assert result.mean_loss == pytest.approx(summary["test_loss"], rel=1e-6)


@pytest.fixture(scope="module")
def validated(trainer, tmp_path_factory):
    """Return folder and summary of a run with a validation split, whose last epoch is worse than those before."""
    workdir = tmp_path_factory.mktemp("validated") / "run"
    config = trainer.quick_config(epochs=4, ema_decay=None)
    config = replace(
        config, data=replace(config.data, val_fraction=0.1), evaluate=replace(config.evaluate, every_epochs=1)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_mesh", one_device_mesh)
        change_params(patch, 80, np.negative)
        return workdir, loop.train(config, workdir, console=quiet())


def test_a_validation_split_is_logged_and_its_best_checkpoint_kept(validated):
    scores = {line["step"]: line["accuracy"] for line in read_metrics(validated[0]) if line["split"] == "val"}
    assert list(scores) == [20, 40, 60, 80]
    kept = {int(path.name) for path in (validated[0] / "checkpoints").glob("[0-9]*")}
    best = [step for step in scores if scores[step] == max(scores.values())]
    assert 80 in kept and kept & set(best) and len(kept) <= 3


def test_the_summary_is_of_the_best_checkpoint_and_evaluate_agrees(validated, capsys):
    workdir, summary = validated
    assert summary["evaluated_step"] < summary["steps"] == 80
    evaluate_command(str(workdir), json=True)
    assert json.loads(capsys.readouterr().out)["accuracy"] == summary["test_accuracy"]


def test_every_reader_says_which_checkpoint_it_uses_in_the_place_of_a_damaged_best_one(validated, tmp_path, capsys):
    shutil.copytree(validated[0], tmp_path / "run")
    best = validated[1]["evaluated_step"]
    (tmp_path / "run" / "checkpoints" / str(best) / "state" / "manifest.ocdbt").write_bytes(b"")
    image = Image.new("L", (8, 8))
    image.save(tmp_path / "image.png")
    evaluate_command(str(tmp_path / "run"), json=True)
    figures = json.loads(capsys.readouterr().out)
    step = figures["step"]
    assert step != best and figures["damaged_checkpoints"] == [best] and not figures["best"]
    choice = f"step {step}, since checkpoint {best} is damaged"
    convert_command(str(tmp_path / "run"), tmp_path / "w.pth")
    export_command(str(tmp_path / "run"), format="safetensors", out=tmp_path / "saved")
    assert capsys.readouterr().err.count(choice) == 2
    predict_command(str(tmp_path / "run"), (str(tmp_path / "image.png"),))
    assert choice in capsys.readouterr().err


@pytest.mark.slow  # a whole run in a process
def test_a_small_terminal_shows_complete_figures(trainer, tmp_path, broken):
    shutil.copytree(broken.stopped, tmp_path / "run")  # one epoch remains
    parent, child = pty.openpty()
    os.set_blocking(parent, True)
    shape = f"stty rows 15 cols 60 <&{child}"
    subprocess.run(["bash", "-c", shape], pass_fds=[child], check=True)
    env = {key: value for key, value in trainer.env.items() if key not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
    command = trainer.command(tmp_path / "run")
    with subprocess.Popen(command, cwd=REPO, env=env, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        screen = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # how Linux reports that the other side is closed
                break
            if not part:
                break
            screen += part
    os.close(parent)
    text = screen.decode()
    assert process.returncode == 0 and "Traceback" not in text
    assert 0 < text.index("compiling") < text.index("epoch 4")
    assert re.search(r"epoch \d+ +loss \d\.\d+ accuracy \d+\.\d% ", text) and "…" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") > 0  # the cursor is hidden and comes back
