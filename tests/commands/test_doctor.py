"""What `doctor` finds: in folders, environments and versions made for the tests, and on this machine."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from resnet_jax.commands.doctor import doctor
from resnet_jax.data.reading.cache import image_cache
from resnet_jax.diagnosing import cluster, devices, packages, storage
from resnet_jax.diagnosing.jax_process import ask_jax
from resnet_jax.models.cpu.processor import has_bfloat16

CPU = {"devices": [["cpu", "cpu", None]], "warnings": []}
GPU = {"devices": [["gpu", "NVIDIA H100", 80_000_000_000]] * 2, "warnings": []}
BARE = {"PATH": ""}


def root_with(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_jax_is_asked_for_its_devices_in_another_process():
    answer = ask_jax(os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": "/kept/here"})
    assert [device[0] for device in answer["devices"]] == ["cpu"] and answer["cache"] == "/kept/here"


def test_a_jax_that_cannot_start_is_a_problem():
    finding = devices.devices(ask_jax(os.environ | {"JAX_PLATFORMS": "abacus"}))
    assert finding.state == "problem" and "abacus" in finding.found


def test_a_jax_that_does_not_answer_is_an_error_after_the_timeout():
    assert ask_jax(os.environ, timeout=0.01) == {"error": "no answer within 0.01 s"}


def test_equal_devices_are_counted_and_their_memory_is_shown_if_known():
    assert devices.devices(GPU).found == "2 x NVIDIA H100 with 80 GB"
    assert devices.devices(CPU).found == "1 x cpu"


TASK = {"SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}


@pytest.mark.parametrize(
    ("environ", "state", "remedy"),
    [
        ({"SLURM_NTASKS": "1"}, "ok", ""),
        (TASK, "ok", ""),
        ({"SLURM_NTASKS": "8"}, "note", "srun"),
        (TASK | {"SLURM_GPUS_PER_TASK": "1"}, "problem", "--gpus-per-node"),
    ],
)
def test_a_slurm_job_outside_srun_or_with_hidden_gpus_is_reported_with_the_remedy(environ, state, remedy):
    finding = cluster.slurm(environ)
    assert finding.state == state and remedy in finding.remedy


@pytest.mark.parametrize(
    ("files", "environ", "remedy"),
    [
        (["proc/driver/nvidia/version"], {}, ".[cuda13]"),
        (["dev/nvidia0"], {}, ".[cuda13]"),
        (["dev/accel0"], {}, ".[tpu]"),
        ([], {"COLAB_TPU_1VM": "1"}, ".[tpu]"),
    ],
)
def test_an_unused_accelerator_is_a_problem_with_its_extra_as_remedy(tmp_path, files, environ, remedy):
    finding = devices.accelerators(root_with(tmp_path, *files), BARE | environ, CPU, {})
    assert finding.state == "problem" and remedy in finding.remedy


@pytest.mark.parametrize(
    ("setting", "environ", "answer", "state"),
    [
        ("always [madvise] never", {}, CPU, "note"),
        ("always [madvise] never", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, CPU, "ok"),
        ("always [madvise] never", {}, GPU, "ok"),
        ("[always] madvise never", {}, CPU, "ok"),
        (None, {}, CPU, "ok"),
    ],
)
def test_huge_pages_are_noted_if_they_have_to_be_requested(tmp_path, setting, environ, answer, state):
    if setting is not None:
        file = tmp_path / "sys/kernel/mm/transparent_hugepage/enabled"
        file.parent.mkdir(parents=True)
        file.write_text(setting)
    finding = devices.huge_pages(tmp_path, environ, answer)
    assert finding.state == state and ("GLIBC_TUNABLES" in (finding.remedy or "")) == (state == "note")


@pytest.mark.parametrize(
    ("answer", "said"), [(GPU, "accelerator"), (CPU, "processor" if not has_bfloat16() else "predict")]
)
def test_bfloat16_is_reported_where_it_is_computed(answer, said):
    finding = devices.bfloat16(answer)
    assert finding.state == "ok" and said in finding.found


def test_an_accelerator_in_use_is_ok(tmp_path):
    assert devices.accelerators(root_with(tmp_path, "dev/nvidia0"), BARE, GPU, {}).state == "ok"


def test_a_machine_without_accelerator_is_ok(tmp_path):
    assert devices.accelerators(tmp_path, BARE, CPU, {}).state == "ok"


def test_the_variables_that_hide_an_accelerator_are_named(tmp_path):
    root = root_with(tmp_path, "dev/nvidia0")
    finding = devices.accelerators(root, BARE | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}, CPU, {})
    assert finding.state == "note" and finding.remedy == "unset JAX_PLATFORMS CUDA_VISIBLE_DEVICES"


def test_a_failing_plugin_is_quoted_with_the_required_driver(tmp_path):
    answer = CPU | {"warnings": ["CUDA_ERROR_NO_DEVICE"]}
    finding = devices.accelerators(root_with(tmp_path, "dev/nvidia0"), BARE, answer, {"jax-cuda13-plugin": "0.10.2"})
    assert "CUDA_ERROR_NO_DEVICE" in finding.found and "580" in finding.remedy


def test_a_possible_accelerator_is_a_note(tmp_path):
    (tmp_path / "nvidia-smi").touch(mode=0o755)
    assert devices.accelerators(tmp_path, {"PATH": str(tmp_path)}, CPU, {}).state == "note"
    assert devices.accelerators(root_with(tmp_path, "dev/vfio/0"), BARE, CPU, {}).state == "note"


def test_a_container_with_fewer_cores_is_noted(tmp_path):
    quota = root_with(tmp_path, "sys/fs/cgroup/cpu.max") / "sys/fs/cgroup/cpu.max"
    quota.write_text("50000 100000\n")
    assert "0.5" in devices.cores(tmp_path).found and devices.cores(tmp_path).state == "note"
    quota.write_text("max 100000\n")
    assert devices.cores(tmp_path).state == "ok"


def test_a_version_below_the_declared_one_is_named_with_the_remedy():
    finding = packages.requirements(["flax>=0.12.8", "optax>=0.2.8"], {"flax": "0.12.8", "optax": "0.2.7"})
    assert finding.state == "problem"
    assert finding.found == "optax 0.2.7 (expected optax>=0.2.8)" and finding.remedy == "pip install -U 'optax>=0.2.8'"


def test_a_missing_package_is_a_problem_unless_it_belongs_to_an_extra():
    assert "missing" in packages.requirements(["tqdm"], {}).found
    assert packages.requirements(["wandb; extra == 'wandb'"], {}).state == "ok"


def test_an_old_python_requires_another_environment():
    finding = packages.requirements(["python>=3.11"], {"python": "3.10.4"})
    assert finding.state == "problem" and finding.remedy == "make an environment with python>=3.11"


def test_the_packages_installed_here_meet_the_declared_requirements():
    declared = importlib.metadata.requires("resnet-nnx")
    installed = packages.installed_versions(Requirement(each).name for each in declared)
    assert packages.requirements(declared, installed).state == "ok"


@pytest.mark.parametrize(
    ("versions", "state"),
    [
        ({"jax": "0.10.2", "jaxlib": "0.10.2"}, "ok"),
        ({"jax": "0.10.2", "jaxlib": "0.10.1"}, "ok"),
        ({"jax": "0.10.2", "jaxlib": "0.9.2"}, "problem"),
        ({"jax": "0.10.2", "jaxlib": "0.10.2", "jax-cuda13-plugin": "0.10.2", "jax-cuda13-pjrt": "0.10.2"}, "ok"),
        ({"jax": "0.10.2", "jaxlib": "0.10.2", "jax-cuda13-plugin": "0.10.1"}, "problem"),
    ],
)
def test_jax_and_jaxlib_share_the_minor_version_and_the_plugin_the_whole_version(versions, state):
    assert packages.jax_family(versions).state == state


@pytest.mark.parametrize(
    ("installed", "modules", "gpu", "state"),
    [
        ({}, [], True, "ok"),
        ({"tensorflow": "2.20"}, ["tensorflow"], False, "ok"),
        ({"tensorflow-cpu": "2.20"}, ["tensorflow"], True, "ok"),
        ({"tensorflow": "2.20"}, [], True, "note"),
        ({"tensorflow": "2.20"}, ["tensorflow"], True, "problem"),
    ],
)
def test_tensorflow_is_a_problem_if_it_can_occupy_the_gpu(installed, modules, gpu, state):
    assert packages.tensorflow(installed, modules, gpu=gpu).state == state


def test_the_compilation_cache_is_measured_or_reported_as_off(tmp_path):
    (tmp_path / "program").write_bytes(bytes(20_000_000))
    assert "0.02 GB" in storage.compiled_programs(str(tmp_path)).found
    assert storage.compiled_programs(None).state == "note"


def test_the_image_cache_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = image_cache() / "cifar10-0"
    folder.mkdir(parents=True)
    (folder / "train.npy").write_bytes(bytes(30_000_000))
    assert "0.03 of at most 20 GB" in storage.decoded_images().found


def test_the_command_line_keeps_compiled_programs_where_doctor_finds_them(tmp_path):
    environ = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environ |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", "COLUMNS": "300"}
    result = subprocess.run([sys.executable, "-m", "resnet_jax", "doctor"], env=environ, capture_output=True, text=True)
    assert f"kept in {tmp_path}/resnet_jax/compiled" in result.stdout, result.stderr


def test_the_disk_of_a_folder_that_does_not_exist_is_that_of_its_parent(tmp_path):
    assert f"GB free at {tmp_path}/new/runs" in storage.disk("runs", tmp_path / "new" / "runs", "").found


def test_a_name_reaches_the_terminal_without_control_characters(tmp_path, capsys):
    root_with(tmp_path, "\x1b[2J/1.0.0/features.json")
    doctor(data_dir=tmp_path)
    text = capsys.readouterr().out
    assert "\x1b" not in text and r"\x1b[2J/1.0.0" in text


def test_prepared_data_sets_are_listed(tmp_path):
    root_with(tmp_path, "cifar10/3.0.2/features.json", "digits/incomplete.1_1.0.0/features.json")
    assert storage.prepared(tmp_path).found == f"cifar10/3.0.2 in {tmp_path}"
    assert storage.prepared(tmp_path / "missing").state == "note"


def test_the_decoder_decodes_some_images_per_second():
    assert float(storage.decoding(count=4).found.split()[0].replace(",", "")) > 1


def test_a_problem_ends_the_command_with_exit_code_1(tmp_path):
    code = "from resnet_jax.commands.doctor import doctor; doctor()"
    environ = os.environ | {"JAX_PLATFORMS": "abacus", "XDG_CACHE_HOME": str(tmp_path), "COLUMNS": "200"}
    environ |= {"JAX_COMPILATION_CACHE_DIR": "/kept/here"}
    result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert result.returncode == 1 and "JAX does not start" in result.stdout, result.stderr
    assert "kept in /kept/here" in result.stdout
