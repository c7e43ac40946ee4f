"""Runs of several processes, as on several hosts: real processes on the loopback address, which gloo connects."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax import ResNet18, to_torchvision
from resnet_jax.config import DistributedConfig
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.errors import UsageError
from resnet_jax.hardware.clusters import announced
from resnet_jax.runs.folder import read_metrics, read_summary
from resnet_jax.runs.stored import read_evaluated
from resnet_jax.weights.files import write_weights

REPO = Path(__file__).parents[2]
STEPS = 1437 // 272  # an epoch
ORDER = """
import json, sys, jax
from pathlib import Path
from resnet_jax.data.choice import encoded
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_tfds
from resnet_jax.hardware.processes import Tally, gather, is_first, on_host
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.data.resident import ResidentFeed
from resnet_jax.data.stream import StreamFeed
from resnet_jax.data.workers import Workers
from resnet_jax.training.distributed import joined

data, start, *address = sys.argv[1:]
options = dict(zip(address[::2], address[1::2]))
with joined(
    options.get("--distributed.coordinator"),
    int(options.get("--distributed.process-count", 1)),
    int(options.get("--distributed.process-index", 0)),
):
    mesh, source = make_mesh(272), open_tfds("digits", Path(data))
    resident = ResidentFeed(*load(source, None).train, batch_size=272, key=jax.random.key(0), mesh=mesh)
    stream = StreamFeed(
        encoded(source, None).train, batch_size=272, seed=0, crop_scale=None, mesh=mesh, workers=Workers(0)
    )
    steps = range(int(start), 10)
    orders = [
        [on_host(resident.take(step, 1))[0].tolist() for step in steps],
        [on_host(stream.take(step, 1).indices)[0].tolist() for step in steps],
    ]
    stream.close()
    tally = Tally()
    counts = gather([tally.add(number) for number in (5, 6, 5, 100 + jax.process_index())])
    if is_first():
        print(json.dumps({"orders": orders, "counts": counts}))
"""
"""Prints the images of the steps from a given one to 10, of the resident feed and of the stream feed; and for each
process, how it counted two numbers that all have, and one of its own."""


@dataclass(frozen=True)
class Ended:
    """What a process has left."""

    code: int
    out: str
    err: str


class Hosts:
    """Processes of one run, each with the same number of devices.

    Args:
        commands: of the processes; the options that connect them are added.
        folder: for their output.
        env: environment of all of them.
        cwd: their working directory.
    """

    def __init__(self, commands: Sequence[list[str]], folder: Path, env: dict[str, str], cwd: Path = REPO):
        folder.mkdir(parents=True)
        address, self._folder, self._cwd = f"127.0.0.1:{free_port()}", folder, cwd
        self.processes = [
            self._start(
                [*command, *(connection(address, len(commands), index) if len(commands) > 1 else ())], index, env
            )
            for index, command in enumerate(commands)
        ]

    def _start(self, command: list[str], index: int, env: dict[str, str]) -> subprocess.Popen:
        with self._file(index, "out").open("w") as out, self._file(index, "err").open("w") as err:
            return subprocess.Popen(command, cwd=self._cwd, env=env, stdout=out, stderr=err)

    def _file(self, index: int, kind: str) -> Path:
        return self._folder / f"{index}.{kind}"

    def wait(self, timeout: float = 400) -> list[Ended]:
        """Wait until all have ended."""
        try:
            codes = [process.wait(timeout) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
        return [
            Ended(code, *(self._file(index, kind).read_text() for kind in ("out", "err")))
            for index, code in enumerate(codes)
        ]

    def wait_for(self, path: Path) -> None:
        """Wait until there is a file or folder."""
        while not path.exists():
            assert self.processes[0].poll() is None, self._file(0, "err").read_text()
            time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def connection(address: str, count: int, index: int) -> list[str]:
    options = {"coordinator": address, "process-count": count, "process-index": index}
    return [word for name, value in options.items() for word in (f"--distributed.{name}", str(value))]


@dataclass(frozen=True)
class Trainer:
    """Runs `python train.py` on the digits with a tiny network, 4 epochs of 5 steps."""

    data: Path
    weights: Path
    folder: Path

    def command(self, workdir: Path, *options: str) -> list[str]:
        return [
            *(sys.executable, "train.py", "--config", "configs/digits.py", "--data.dir", str(self.data)),
            *("--model.width", "4", "--train.epochs", "4", "--train.batch-size", "272", "--evaluate.batch-size", "360"),
            *("--model.pretrained", str(self.weights), "--optimizer.peak-learning-rate", "0.001"),
            *("--evaluate.every-epochs", "2", "--workdir", str(workdir), *options),
        ]

    def start(
        self,
        workdir: Path,
        count: int,
        devices: int,
        *options: str,
        last: Sequence[str] = (),
        signaled: tuple[int, int] | None = None,
    ) -> Hosts:
        """Start `count` processes with `devices` each.

        Args:
            workdir, count, devices, options: of the run.
            last: further options of the last process.
            signaled: a signal that the last process gets, and the step before which it gets it.
        """
        commands = [self.command(workdir, *options) for _ in range(count)]
        commands[-1] += last
        if signaled:
            commands[-1][1:1] = ["-c", SIGNALED, *map(str, map(int, signaled))]
        self.folder.mkdir(exist_ok=True)
        output = self.folder / str(len(list(self.folder.iterdir())))
        return Hosts(commands, output, os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)})


def write_start(path: Path) -> Path:
    """Write weights whose BatchNorm biases are 3.

    They keep the inputs of the ReLUs away from 0, where sums in another order pass or block a gradient.
    """
    tensors = to_torchvision(ResNet18(num_classes=10, width=4, stem="cifar", rngs=nnx.Rngs(0)))
    biases = {name: np.full_like(it, 3) for name, it in tensors.items() if name.endswith("bias") and name != "fc.bias"}
    write_weights(path, tensors | biases)
    return path


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    data, caches = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(caches))
        load(open_tfds("digits", data), None)
        yield Trainer(data, write_start(data / "start.safetensors"), tmp_path_factory.mktemp("output"))


def orders(trainer: Trainer, folder: Path, count: int, devices: int, start: int = 0) -> list[list[list[int]]]:
    """Return the images of each step: of the resident feed, and of the stream feed; check what is counted together."""
    commands = [[sys.executable, "-c", ORDER, str(trainer.data), str(start)]] * count
    ended = Hosts(commands, folder, os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}).wait()
    assert [each.code for each in ended] == [0] * count, ended
    printed = json.loads(ended[0].out)
    counts = [number for own in printed["counts"] for number in own if number is not None]
    assert sorted(counts) == list(range(1, 3 + count))  # each number once, by the process that had it first
    return printed["orders"]


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """Return the folder of a run of two processes, and how they ended."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, trainer.start(workdir, 2, 2).wait()


def weights(workdir: Path) -> dict[str, np.ndarray]:
    """Return the averaged weights and running statistics of the last checkpoint."""
    leaves = jax.tree.leaves_with_path(read_evaluated(workdir / "checkpoints").state)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def timeless(figures: dict) -> dict:
    return {
        key: value for key, value in figures.items() if key not in ("seconds", "images_per_second", "waiting_share")
    }


# What needs no other process


def test_with_one_process_nothing_waits_for_others_and_no_device_is_started():
    code = (
        "from resnet_jax.hardware.processes import *; from jax._src import xla_bridge\n"
        "assert gather('a') == ['a'] and largest(3) == 3 and is_first() and count() == 1\n"
        "check_equal({}); first_only(lambda: None)\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


@pytest.mark.parametrize(
    "given", [{"coordinator": "a:1"}, {"process_count": 2}, {"coordinator": "a:1", "process_index": 0}]
)
def test_a_part_of_the_connection_is_refused_with_the_missing_options(given):
    with pytest.raises(UsageError) as caught:
        DistributedConfig(**given)
    for name in ("coordinator", "process_count", "process_index"):
        assert (f"--distributed.{name.replace('_', '-')}" in str(caught.value).split(":")[0]) == (name not in given)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("coordinator", ("10.0.0.1", 2, 0)),
        ("coordinator", ("10.0.0.1:x", 2, 0)),
        ("process-count", ("a:1", 0, 0)),
        ("process-index", ("a:1", 2, 2)),
        ("process-index", ("a:1", 2, -1)),
    ],
)
def test_a_wrong_connection_is_refused_with_the_name_of_its_option(option, given):
    with pytest.raises(UsageError, match=rf"--distributed\.{option}: got "):
        DistributedConfig(*given)


@pytest.mark.parametrize(
    ("environ", "cluster"),
    [
        ({}, None),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, "SLURM"),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, None),
        ({"SLURM_NTASKS": "4"}, None),  # in a script of sbatch, outside srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a notebook in a cluster
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1"}, "Cloud TPU"),
    ],
)
def test_several_processes_are_recognized_by_the_variables_of_their_cluster(environ, cluster):
    assert announced(environ) == cluster


@pytest.mark.parametrize(("hosts", "cluster"), [("t0", None), ("t0,t1", "Cloud TPU")])
def test_a_tpu_slice_is_recognized_by_the_hosts_in_the_metadata(tmp_path, hosts, cluster):
    asked = []

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Metadata-Flavor"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(hosts.encode())

        def log_message(self, *args):
            pass

    (tmp_path / "dev").mkdir()
    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
        assert announced(environ, tmp_path) is None and asked == []  # a machine without a TPU asks nobody
        (tmp_path / "dev" / "accel0").touch()
        assert announced(environ, tmp_path) == cluster
        assert announced(environ | {"TPU_SKIP_MDS_QUERY": "1"}, tmp_path) is None
        server.shutdown()
    assert asked == [("/computeMetadata/v1/instance/attributes/worker-network-endpoints", "Google")]


# Runs of several processes


@pytest.mark.slow
def test_the_images_of_a_step_do_not_depend_on_processes_and_a_run_continues_with_the_rest(trainer, tmp_path):
    one = orders(trainer, tmp_path / "one", 1, 4)
    assert orders(trainer, tmp_path / "two", 2, 2) == one
    assert orders(trainer, tmp_path / "four", 4, 1, start=7) == [feed[7:] for feed in one]
    for feed in one:
        for epoch in (feed[:STEPS], feed[STEPS:]):
            assert len(np.unique(epoch)) == STEPS * 272


@pytest.mark.slow
def test_all_processes_end_well_and_only_the_first_prints(whole):
    _, (first, second) = whole
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "epoch 4/4" in first.out and second.out == ""
    assert "[Gloo]" not in first.out
    assert all(line.startswith("[Gloo]") for each in (first, second) for line in each.err.splitlines())


@pytest.mark.slow
def test_a_run_folder_of_two_processes_is_like_that_of_one(whole):
    workdir, _ = whole
    assert [line["step"] for line in read_metrics(workdir)] == [5, 10, 10, 15, 20, 20]
    assert len(json.loads((workdir / "environment.json").read_text())) == 1
    assert {"confusion.png", "curves.png", "mistakes.csv"} <= {path.name for path in workdir.iterdir()}
    assert "distributed" not in json.loads((workdir / "config.json").read_text())
    summary = read_summary(workdir)
    assert summary is not None and summary["test_images"] == 360 and summary["steps"] == 4 * STEPS
    mistakes = (workdir / "mistakes.csv").read_text().splitlines()[1:]
    assert len(mistakes) == round(360 * (1 - summary["test_accuracy"]))


@pytest.mark.slow
def test_weights_after_20_steps_do_not_depend_on_how_4_devices_are_divided_among_processes(whole, trainer, tmp_path):
    ended = trainer.start(tmp_path / "run", 4, 1).wait()  # `whole` has two processes of two devices
    assert [each.code for each in ended] == [0] * 4, ended
    expected, got = weights(whole[0]), weights(tmp_path / "run")
    assert expected.keys() == got.keys()
    for name, array in expected.items():
        assert np.linalg.norm(got[name] - array) <= 1e-5 * np.linalg.norm(array), name


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_same_command_continues_bit_for_bit(whole, trainer, tmp_path):
    hosts = trainer.start(tmp_path / "run", 2, 2)
    hosts.wait_for(tmp_path / "run" / "checkpoints" / str(STEPS))
    hosts.processes[1].kill()
    first, second = hosts.wait(60)
    assert first.code in (1, -signal.SIGABRT) and second.code == -signal.SIGKILL
    assert "lost another process" in first.err or "tasks are unhealthy" in first.err  # JAX's words
    assert "the same command on all hosts continues" in first.out + first.err
    resumed = trainer.start(tmp_path / "run", 2, 2).wait()
    assert [each.code for each in resumed] == [0, 0] and "resuming from step" in resumed[0].out
    expected, got = weights(whole[0]), weights(tmp_path / "run")
    assert {name: array.tobytes() for name, array in got.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    assert [timeless(line) for line in read_metrics(tmp_path / "run")] == [
        timeless(line) for line in read_metrics(whole[0])
    ]


@pytest.mark.slow
def test_a_killed_first_process_ends_the_other(trainer, tmp_path):
    hosts = trainer.start(tmp_path / "run", 2, 2)
    hosts.wait_for(tmp_path / "run" / "checkpoints" / str(STEPS))
    hosts.processes[0].kill()
    first, second = hosts.wait(60)
    assert first.code == -9 and second.code != 0
    assert "another task died" in second.err or "lost another process" in second.err


@pytest.mark.slow
def test_sigterm_to_the_second_process_saves_in_both_and_one_process_continues(trainer, tmp_path):
    hosts = trainer.start(tmp_path / "run", 2, 2)
    hosts.wait_for(tmp_path / "run" / "checkpoints" / str(STEPS))
    hosts.processes[1].send_signal(signal.SIGTERM)
    first, second = hosts.wait(60)
    assert (first.code, second.code) == (143, 143), first.err + second.err
    saved = [re.search(r"stopped and saved at step (\d+)", each.err) for each in (first, second)]
    assert saved[0] and saved[1] and saved[0][1] == saved[1][1]
    (alone,) = trainer.start(tmp_path / "run", 1, 4).wait()
    assert alone.code == 0 and f"resuming from step {saved[0][1]}\n" in alone.out


@pytest.mark.slow
def test_different_configurations_are_an_error_of_both_that_names_the_difference(trainer, tmp_path):
    for each in trainer.start(tmp_path / "run", 2, 1, last=("--train.seed", "7")).wait(60):
        assert each.code == 2 and "train.seed is 0 in process 0 and 7 in process 1" in each.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_different_numbers_of_devices_are_an_error_of_both(trainer, tmp_path):
    command = trainer.command(tmp_path / "run")
    more = ["env", "JAX_NUM_CPU_DEVICES=3", *command]
    for each in Hosts([command, more], tmp_path / "output", os.environ | {"JAX_NUM_CPU_DEVICES": "1"}).wait(60):
        assert each.code == 2 and "process 0 has 1 devices and process 1 has 3" in each.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_name_all_processes_take_the_run_folder_of_the_first(trainer, tmp_path):
    command = trainer.command(tmp_path, "--train.epochs", "1", "--config", str(REPO / "configs" / "digits.py"))
    command[1] = str(REPO / command[1])
    place = command.index("--workdir")
    del command[place : place + 2], command[2:4]
    elsewhere = ["env", "TZ=Asia/Tokyo", *command]  # where the name, which has the time, would be another one
    ended = Hosts([command, elsewhere], tmp_path / "output", os.environ | {"TZ": "UTC"}, cwd=tmp_path).wait()
    assert [each.code for each in ended] == [0, 0], ended
    (run,) = (tmp_path / "runs").iterdir()
    assert read_summary(run) is not None


@pytest.mark.slow
def test_a_run_folder_that_the_first_process_cannot_make_is_one_error_of_each(trainer, tmp_path):
    (tmp_path / "file").write_text("")
    for each in trainer.start(tmp_path / "file" / "run", 2, 1).wait(60):
        assert each.code == 1 and each.err.count("error") == 1 and "give a writable --workdir" in each.err


@pytest.mark.slow
def test_a_full_disk_of_one_process_ends_both_with_its_reason_and_leaves_the_last_checkpoint(trainer, tmp_path):
    hosts = trainer.start(tmp_path / "run", 2, 2)
    hosts.wait_for(tmp_path / "run" / "checkpoints" / str(STEPS))
    subprocess.run(["prlimit", "--fsize=20000", "--pid", str(hosts.processes[1].pid)], check=True)
    ended = hosts.wait(100)
    assert [each.code for each in ended] == [1, 1]
    assert all("can't write" in each.err and "Traceback" not in each.err for each in ended)
    assert read_evaluated(tmp_path / "run" / "checkpoints").step >= STEPS


STREAMED = ("--data.feed", "stream", "--data.workers", "0")
SIGNALED = """
import os, runpy, sys
from resnet_jax.data.stream import StreamFeed

number, at = int(sys.argv.pop(1)), int(sys.argv.pop(1))
take = StreamFeed.take

def signaled(self, step, count):
    if step == at:
        os.kill(os.getpid(), number)
    return take(self, step, count)

StreamFeed.take = signaled
sys.argv.pop(0)
runpy.run_path("train.py", run_name="__main__")
"""
"""Runs train.py, and sends a signal to itself before a step."""


@pytest.mark.slow
def test_a_streamed_run_of_two_processes_that_is_stopped_within_an_epoch_goes_on_in_one_with_the_images_that_are_left(
    trainer, tmp_path
):
    (undisturbed,) = trainer.start(tmp_path / "undisturbed", 1, 4, *STREAMED).wait()
    assert undisturbed.code == 0, undisturbed.err
    step = 2 * STEPS + 1
    ended = trainer.start(tmp_path / "run", 2, 2, *STREAMED, signaled=(signal.SIGINT, step)).wait()
    assert [each.code for each in ended] == [130, 130], ended
    assert all(f"stopped and saved at step {step + 1};" in each.err for each in ended)
    (alone,) = trainer.start(tmp_path / "run", 1, 4, *STREAMED).wait()
    assert alone.code == 0 and f"resuming from step {step + 1}\n" in alone.out
    expected, got = weights(tmp_path / "undisturbed"), weights(tmp_path / "run")
    for name, array in expected.items():
        assert np.linalg.norm(got[name] - array) <= 1e-5 * np.linalg.norm(array), name


@pytest.mark.slow
def test_without_the_first_process_the_second_gives_up_with_a_message():
    address = f"127.0.0.1:{free_port()}"
    code = (
        "from resnet_jax.entry import run\nfrom resnet_jax.training.distributed import joined\n"
        f"def main():\n    with joined('{address}', 2, 1, connecting=3): pass\nrun(main)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and address in ended.stderr and "--distributed.coordinator" in ended.stderr
    assert "Traceback" not in ended.stderr
