"""Run folders in an object store: what is uploaded when, and what is read after a kill at any moment."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from object_store import client, gs_store, names, s3_store, steps

from resnet_jax.errors import UsageError, UserError
from resnet_jax.runs import bucket as bucket_module
from resnet_jax.runs.bucket import Bucket
from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.fetching import fetched
from resnet_jax.runs.folder import complete_steps
from resnet_jax.runs.manifest import write_manifest
from resnet_jax.runs.staging import RunFolder, staged
from resnet_jax.runs.stored import read_evaluated


@pytest.fixture(scope="module", params=[s3_store, pytest.param(gs_store, marks=pytest.mark.slow)])
def store(request):
    with request.param() as url:
        yield url


@pytest.fixture
def run(store, request, tmp_path, monkeypatch):
    """Return the address of an empty run folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"{store}/{request.node.originalname}"


def save(folder: RunFolder, *saved: int) -> None:
    """Make folders as Orbax leaves them, each with the checksums of its files, and upload them."""
    for step in saved:
        unnamed = folder.path / "checkpoints" / f"{step}.tmp"
        (unnamed / "state").mkdir(parents=True)
        (unnamed / "state" / "array").write_text(str(step))
        write_manifest(unnamed)
        assert folder.upload is not None
        folder.upload(unnamed, step)
        unnamed.rename(unnamed.with_suffix(""))


class Killed(BaseException):
    """Stands for the end of a process, after which nothing more is done."""


def test_a_finished_run_has_the_files_and_the_last_checkpoints_in_the_bucket_and_no_copy(run, tmp_path):
    with staged(run) as folder:
        for name in ("metrics.jsonl", "summary.json", ".lock", "tensorboard/events.1"):
            (folder.path / name).parent.mkdir(exist_ok=True)
            (folder.path / name).write_text(name)
        checkpoints = Checkpoints(folder.path / "checkpoints", keep=2, best=False, upload=folder.upload)
        for step in (10, 20, 30):
            weights = {"params": jnp.full(3, float(step)), "batch_stats": jnp.ones(2), "ema_params": None}
            checkpoints.save(step, {"train": weights}, {})
        checkpoints.close()
    assert steps(run) == [20, 30]
    others = {name for name in names(run) if not name.startswith("checkpoints/")}
    assert others == {".owner", "metrics.jsonl", "summary.json", "tensorboard/events.1"}
    assert not folder.path.exists()
    with fetched(run, weights=True) as copy:
        np.testing.assert_array_equal(read_evaluated(copy / "checkpoints").state["params"], np.full(3, 30.0))


def test_a_start_takes_what_is_in_the_bucket_and_not_what_a_killed_one_has_left_on_the_disk(run):
    with pytest.raises(Killed), staged(run) as folder:
        (folder.path / "metrics.jsonl").write_text("pushed\n")
        folder.push()
        save(folder, 10)
        (folder.path / "metrics.jsonl").write_text("pushed\nlost\n")
        raise Killed
    with staged(run) as folder:
        assert (folder.path / "metrics.jsonl").read_text() == "pushed\n"
        assert complete_steps(folder.path / "checkpoints") == [10]


def test_a_checkpoint_whose_upload_was_cut_short_is_not_read_and_is_replaced(run):
    with pytest.raises(Killed), staged(run) as folder:
        save(folder, 10, 20)
        raise Killed
    client(run[:2]).rm_file(f"{run}/checkpoints/20/checksums.json")
    client(run[:2]).pipe_file(f"{run}/checkpoints/20/state/left", b"by the killed process")
    with fetched(run, weights=True) as copy:
        assert complete_steps(copy / "checkpoints") == [10]
    with staged(run) as folder:
        assert complete_steps(folder.path / "checkpoints") == [10]
        save(folder, 20)
    assert steps(run) == [10, 20] and "checkpoints/20/state/left" not in names(run)


def test_the_process_that_starts_last_goes_on_and_the_other_one_ends(run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="another process has started to train in "), staged(run) as first:
        save(first, 10)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another host"))
        with staged(run) as second:
            save(second, 20)
        save(first, 30)
    assert steps(run) == [10, 20]


def test_two_processes_of_one_host_do_not_train_in_the_same_folder(run):
    with staged(run), pytest.raises(UserError, match=f"another process is training in {run}"), staged(run):
        pytest.fail("it was opened twice")


def test_an_error_names_the_run_folder_as_the_user_does(run):
    with pytest.raises(UserError, match=f"^bad figure in {run}/metrics.jsonl$"), staged(run) as folder:
        raise UserError(f"bad figure in {folder.path}/metrics.jsonl")


@pytest.mark.parametrize("store", [s3_store], indirect=True)  # the emulator of gs:// cannot hold such names
@pytest.mark.parametrize("name", ["//outside", "/../outside", "/inner/../../outside"])
def test_a_file_whose_name_leads_out_of_the_folder_is_not_copied(run, name):
    scheme, _, folder = run.partition("://")
    client(scheme).pipe_file(f"{folder}/metrics.jsonl", b"{}")
    client(scheme).pipe_file(f"{folder}{name}", b"hostile")
    assert Bucket(run).names() == ["metrics.jsonl"]


def test_a_path_of_an_address_is_understood(run):
    with staged(Path(run)) as folder:
        assert str(folder) == run and folder.path.name == run.rpartition("/")[2]


def test_a_folder_on_a_disk_is_used_as_it_is(tmp_path):
    with staged(tmp_path) as folder:
        assert folder.path == tmp_path and folder.upload is None


@pytest.mark.parametrize("url", ["az://container/run", "https://host/run", "s3://bucket", "file:///tmp/run"])
def test_another_address_is_refused_with_the_form_that_is_expected(url):
    with pytest.raises(UsageError, match=rf"got {url}, expected .* s3://BUCKET/FOLDER"):
        Bucket(url)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(bucket_module.LIBRARIES, "gs", "not_installed")
    with pytest.raises(UsageError, match=r"gs://bucket/run needs the package not_installed: .*\[cloud\]"):
        Bucket("gs://bucket/run")


def refused(url: str) -> None:
    with pytest.raises(UserError, match=rf"^can't write to {url} \(.+\): check the name .* credentials"), staged(url):
        pytest.fail("it was opened")
    with pytest.raises(UserError, match=rf"^can't list {url} \(.+\): check"), fetched(url, weights=False):
        pytest.fail("it was read")


def test_a_bucket_that_does_not_exist_is_one_error(store):
    refused(f"{store}-misspelled/run")


@pytest.mark.parametrize("wrong", ["credentials", "connection"])
def test_an_s3_store_that_does_not_answer_is_one_error(tmp_path, monkeypatch, wrong):
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    options = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in (options | files | keys | {"XDG_CACHE_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    if wrong == "credentials":
        for name in keys:
            monkeypatch.delenv(name)
    refused("s3://bucket/run")


def test_a_run_that_is_not_there_is_named(store):
    with (
        pytest.raises(UserError, match=f"there is no run in {store}/nothing"),
        fetched(f"{store}/nothing", weights=False),
    ):
        pytest.fail("it was read")


def test_a_checkpoint_that_can_not_be_uploaded_is_an_error_and_gets_no_name(tmp_path):
    def fail(folder: Path, step: int) -> None:
        raise UserError(f"no connection for {step}")

    checkpoints = Checkpoints(tmp_path, keep=1, best=False, upload=fail)
    checkpoints.save(10, {"weights": jnp.ones(3)}, {})
    with pytest.raises(UserError, match=r"^no connection for 10$"):
        checkpoints.close()
    assert complete_steps(tmp_path) == []
