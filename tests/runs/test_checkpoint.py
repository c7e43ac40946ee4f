"""Checkpoints on a real disk: which are kept, damage, devices, failures."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resnet_jax.errors import UserError
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.manifest import check_manifest
from resnet_jax.runs.stored import read_evaluated


def on(devices: int) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("data",)), PartitionSpec())


def state(value: float, sharding: NamedSharding | None = None) -> dict:
    tree = {"weights": jnp.full((64, 64), value), "key": jax.random.key(3), "layers": [jnp.arange(5), None]}
    return jax.device_put(tree, sharding or on(1))


def saved(folder: Path, *steps: int, keep: int = 2, scores: dict | None = None) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep, best=scores is not None)
    for step in steps:
        score = scores[step] if scores else None
        checkpoints.save(step, state(step), {"seconds": float(step)}, score=score)
        checkpoints.wait()
    return checkpoints


def restored_step(folder: Path, messages: list) -> int:
    checkpoints = Checkpoints(folder, keep=2, best=False)
    result = checkpoints.restore(state(0), on(1), messages.append)
    assert result is not None and (np.asarray(result.state["weights"]) == result.step).all()
    return result.step


def test_the_latest_are_kept(tmp_path):
    assert saved(tmp_path, 1, 2, 3, 4, keep=2).steps == [3, 4]


def test_the_best_is_kept_as_well_as_the_latest(tmp_path):
    assert saved(tmp_path, 1, 2, 3, 4, keep=1, scores={1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6}).steps == [2, 4]


def test_the_best_is_still_known_after_a_restart(tmp_path):
    saved(tmp_path, 1, 2, keep=1, scores={1: 0.9, 2: 0.5}).close()
    assert saved(tmp_path, 3, 4, keep=1, scores={3: 0.6, 4: 0.6}).steps == [1, 4]


def test_everything_is_restored_bit_for_bit(tmp_path):
    checkpoints = saved(tmp_path, 7)
    result = checkpoints.restore(state(0), on(1), pytest.fail)
    assert result is not None and result.step == 7 and result.info == {"seconds": 7.0, "score": None}
    assert jax.tree.structure(result.state) == jax.tree.structure(state(7))
    for got, expected in zip(jax.tree.leaves(result.state), jax.tree.leaves(state(7)), strict=True):
        assert got.dtype == expected.dtype and (got == expected).all()


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1)])
def test_a_checkpoint_is_restored_onto_another_number_of_devices(tmp_path, before, after):
    checkpoints = Checkpoints(tmp_path, keep=1, best=False)
    checkpoints.save(5, state(5, on(before)), {})
    checkpoints.wait()
    result = checkpoints.restore(state(0, on(after)), on(after), pytest.fail)
    assert result is not None
    assert result.state["weights"].sharding.device_set == set(jax.devices()[:after])
    assert (np.asarray(result.state["weights"]) == 5).all()


def test_an_empty_folder_restores_nothing(tmp_path):
    assert Checkpoints(tmp_path, keep=1, best=False).restore(state(0), on(1), pytest.fail) is None


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_is_used(tmp_path, damage):
    saved(tmp_path, 1, 2).close()
    for file in (tmp_path / "2" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 0:
            os.truncate(file, file.stat().st_size // 2) if damage == "truncate" else file.unlink()
    messages: list[str] = []
    assert restored_step(tmp_path, messages) == 1
    assert len(messages) == 1 and "checkpoint 2" in messages[0]


def test_a_truncated_file_never_gives_wrong_values(tmp_path):
    saved(tmp_path / "good", 1, 2).close()
    files = [f for f in (tmp_path / "good" / "2" / "state").rglob("*") if f.is_file() and f.stat().st_size > 200]
    for number, file in enumerate(files):
        copy = tmp_path / str(number)
        subprocess.run(["cp", "-r", tmp_path / "good", copy], check=True)
        os.truncate(copy / file.relative_to(tmp_path / "good"), file.stat().st_size // 2)
        assert restored_step(copy, []) in (1, 2)  # restored_step also compares the values


def test_if_no_checkpoint_can_be_read_the_error_says_so(tmp_path):
    saved(tmp_path, 1).close()
    (tmp_path / "1" / "state" / "_METADATA").write_text("{")
    with pytest.raises(UserError, match=r"none of the checkpoints .*\(1\.unreadable\).*another --workdir"):
        Checkpoints(tmp_path, keep=1, best=False).restore(state(0), on(1), lambda message: None)
    with pytest.raises(UserError, match=r"1\.unreadable"):  # nor does the next start begin anew in silence
        Checkpoints(tmp_path, keep=1, best=False).restore(state(0), on(1), lambda message: None)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda tree: tree | {"weights": jnp.zeros((64, 32))}, "weights"),
        (lambda tree: tree | {"weights": tree["weights"].astype(jnp.bfloat16)}, "weights"),
        (lambda tree: tree | {"more": jnp.zeros(3)}, "more"),
        (lambda tree: {key: leaf for key, leaf in tree.items() if key != "key"}, "key"),
    ],
)
def test_another_structure_is_refused_by_name_and_the_checkpoint_is_kept(tmp_path, change, name):
    checkpoints = saved(tmp_path, 1)
    with pytest.raises(UserError, match=f"checkpoint 1 .*{name}"):
        checkpoints.restore(change(state(0)), on(1), pytest.fail)
    assert checkpoints.steps == [1]


def test_every_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    """Flip one random bit in each file."""
    checkpoints = saved(tmp_path / "run", 1)
    checkpoints.close()
    folder, draw = tmp_path / "run" / "1", random.Random(0)
    files = [path for path in folder.glob("*/**/*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=path.name):
            check_manifest(folder)
        path.write_bytes(content)
    check_manifest(folder)


def test_a_flipped_bit_in_an_array_is_reported_and_the_previous_checkpoint_is_used(tmp_path):
    saved(tmp_path, 1, 2).close()
    array = max((tmp_path / "2" / "state").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes(content)
    reports: list[str] = []
    assert restored_step(tmp_path, reports) == 1
    assert "checksums" in reports[0]


@pytest.mark.parametrize("content", [b"\xff", b'{"score": 0.99}'])
def test_a_checkpoint_with_a_damaged_score_does_not_take_the_place_of_the_best(tmp_path, content):
    saved(tmp_path, 1, 2, keep=1, scores={1: 0.9, 2: 0.5}).close()
    (tmp_path / "2" / "metrics" / "metrics").write_bytes(content)
    assert saved(tmp_path, 3, keep=1, scores={3: 0.6}).steps == [1, 3]


def test_a_checkpoint_of_an_older_version_without_checksums_is_read(tmp_path):
    saved(tmp_path, 1).close()
    (tmp_path / "1" / "checksums.json").unlink()
    assert restored_step(tmp_path, []) == 1


IMAGES = {"class_names": ["cat", "dog"], "image_shape": [8, 8, 3], "train_images": 90, "mean": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize("change", [{"class_names": ["cat", "cow"]}, {"train_images": 91}, {"mean": [0.4, 0.5, 0.5]}])
def test_other_images_are_refused_with_what_differs(tmp_path, change):
    checkpoints = Checkpoints(tmp_path, keep=1, best=False)
    checkpoints.save(1, state(1), IMAGES)
    checkpoints.wait()
    (name,) = change
    with pytest.raises(UserError, match=rf"{name}: .* -> "):
        checkpoints.restore(state(0), on(1), pytest.fail, IMAGES | change)
    assert checkpoints.steps == [1]


def test_metadata_that_an_older_version_did_not_store_is_not_compared(tmp_path):
    checkpoints = saved(tmp_path, 1)
    assert checkpoints.restore(state(0), on(1), pytest.fail, IMAGES) is not None


def training_state(value: float) -> dict:
    weights = {"params": jnp.full(3, value), "batch_stats": jnp.zeros(2), "ema_params": None, "ema_batch_stats": None}
    return {"train": weights}


@pytest.mark.parametrize(("scores", "step"), [((0.5, 0.9, 0.7), 2), ((0.5, 0.9, 0.9), 3), ((None, None, None), 3)])
def test_the_evaluated_weights_are_the_best_or_without_scores_the_last(tmp_path, scores, step):
    restored = read_evaluated(scored(tmp_path, scores))
    assert restored.step == step and (restored.state["params"] == step).all()


def scored(folder: Path, scores: tuple) -> Path:
    """Write a checkpoint for each score, from step 1 on, with the step as weights."""
    checkpoints = Checkpoints(folder, keep=len(scores), best=scores[0] is not None)
    for number, score in enumerate(scores, 1):
        checkpoints.save(number, training_state(number), {}, score=score)
        checkpoints.wait()
    checkpoints.close()
    return folder


def truncate(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("part", ["state", "info"])
@pytest.mark.parametrize(
    ("scores", "damaged", "step"),
    [((None, None, None), 3, 2), ((0.5, 0.9, 0.7), 2, 3), ((0.8, 0.9, 0.7), 2, 1)],
)
def test_in_the_place_of_a_damaged_one_the_next_checkpoint_is_evaluated_with_a_warning(
    tmp_path, caplog, scores, damaged, step, part
):
    truncate(scored(tmp_path, scores) / str(damaged) / part)
    restored = read_evaluated(tmp_path)
    assert restored.step == step and restored.damaged == (damaged,) and (restored.state["params"] == step).all()
    assert f"can't read checkpoint {damaged}: " in caplog.text and f"using checkpoint {step} instead" in caplog.text


def test_a_damaged_checkpoint_that_would_not_be_evaluated_changes_nothing(tmp_path, caplog):
    truncate(scored(tmp_path, (None, None)) / "1")
    restored = read_evaluated(tmp_path)
    assert restored.step == 2 and restored.damaged == () and "using checkpoint" not in caplog.text


def test_if_every_checkpoint_is_damaged_evaluating_names_them_all(tmp_path):
    scored(tmp_path, (None, None))
    for step in ("1", "2"):
        truncate(tmp_path / step / "state")
    with pytest.raises(UserError, match=r"none of the checkpoints .*1: .*2: "):
        read_evaluated(tmp_path)


def test_a_device_error_is_not_reported_as_a_disk_error(tmp_path):
    def fail(x):
        raise ValueError("the device has failed")

    with pytest.raises(jax.errors.JaxRuntimeError, match="the device has failed"):
        saved(tmp_path, 1)._guard(lambda: jax.jit(lambda x: jax.pure_callback(fail, x, x))(jnp.ones(3)))


def test_an_interrupted_write_is_not_a_checkpoint(tmp_path):
    saved(tmp_path, 1).close()
    partial = tmp_path / "2.orbax-checkpoint-tmp"
    subprocess.run(["cp", "-r", tmp_path / "1", partial], check=True)
    assert restored_step(tmp_path, []) == 1


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import jax
import jax.numpy as jnp
from resnet_jax.errors import UserError
from resnet_jax.runs.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2, best=False)
checkpoints.save(1, {"weights": jnp.ones(10)}, {})
checkpoints.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # from now on, files are limited to 20 kB
try:
    checkpoints.save(2, {"weights": jax.random.normal(jax.random.key(0), (100_000,))}, {})
    checkpoints.wait()
except UserError as error:
    print(error)
"""


def test_a_full_disk_ends_in_a_message_that_names_the_last_good_checkpoint(tmp_path):
    result = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=120)
    assert "can't write a checkpoint" in result.stdout, result.stderr
    assert "step 1 is complete" in result.stdout
    assert signal.SIGXFSZ not in (-result.returncode,)
