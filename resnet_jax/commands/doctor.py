"""What this machine and its installation offer a training, what is wrong with them, and the remedy."""

import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from resnet_jax.data.reading.cache import image_cache
from resnet_jax.data.reading.images import Example, decode
from resnet_jax.data.reading.tfds_folders import OWN, default_data_dir, prepared_folders

PROBE = """
import json, jax
devices = [(d.platform, d.device_kind, (d.memory_stats() or {}).get("bytes_limit")) for d in jax.local_devices()]
print(json.dumps({"devices": devices, "cache": jax.config.jax_compilation_cache_dir}))
"""
FAMILY = (
    *("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda13-pjrt", "jax-cuda12-plugin", "jax-cuda12-pjrt", "libtpu"),
    *("flax", "optax", "orbax-checkpoint"),
)
TENSORFLOW = ("tensorflow", "tensorflow-gpu", "tf-nightly", "tensorflow-cpu")
TPU_VARIABLES = ("TPU_NAME", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "COLAB_TPU_ADDR", "COLAB_TPU_1VM")
HIDING = {"JAX_PLATFORMS": ("cpu",), "CUDA_VISIBLE_DEVICES": ("", "-1")}
GPU_REMEDY = "pip install 'resnet-jax[cuda13]', which needs NVIDIA's driver 580 or newer"
DRIVER_REMEDY = "look at nvidia-smi: the driver must be 580 or newer; an older one, from 525: pip install 'jax[cuda12]'"
TPU_REMEDY = "pip install 'resnet-jax[tpu]'"
COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    state: Literal["ok", "note", "problem"]
    subject: str
    found: str
    remedy: str = ""


def doctor(*, data_dir: Path | None = None) -> None:
    """Looks at devices, versions, caches, disks, data sets and decoding speed; exits with 1 if there is a problem.

    Example: resnet-jax doctor

    Args:
        data_dir: TFDS folder to look into. None: $TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
        SystemExit: with 1, there is a problem.
    """
    console = Console(highlight=False)
    with console.status("asking JAX for its devices"):
        findings = diagnose(Path("/"), os.environ, data_dir or default_data_dir())
    table = Table.grid("state", "subject", Column("found", overflow="fold"), padding=(0, 2))
    for finding in findings:
        text = Text(finding.found + (f"\n-> {finding.remedy}" if finding.remedy else ""))
        table.add_row(Text(finding.state, COLOURS[finding.state]), finding.subject, text)
    console.print(table)
    problems = sum(finding.state == "problem" for finding in findings)
    console.print(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    if problems:
        raise SystemExit(1)


def diagnose(root: Path, environ: Mapping[str, str], data_dir: Path) -> list[Finding]:
    """Everything that `doctor` prints; `root` is that of the file system."""
    own = importlib.metadata.metadata("resnet-jax")
    wanted = [f"python{own['Requires-Python']}", *(own.get_all("Requires-Dist") or ())]
    installed = _installed([*FAMILY, *TENSORFLOW, *(Requirement(each).name for each in wanted)])
    answer = ask_jax(environ)
    return [
        devices(answer),
        accelerators(root, environ, answer, installed),
        cores(root),
        huge_pages(root, environ, answer),
        requirements(wanted, installed),
        jax_family(installed),
        tensorflow(installed, sys.modules, gpu="gpu" in _platforms(answer)),
        compilation_cache(answer.get("cache")),
        disk("runs", Path.cwd(), "give a --workdir on another disk"),
        disk("image cache", image_cache(), "set XDG_CACHE_HOME to a folder on another disk"),
        disk("data sets", data_dir, "set TFDS_DATA_DIR or --data.dir to a folder on another disk"),
        prepared(data_dir),
        decoding(),
    ]


def ask_jax(environ: Mapping[str, str], *, timeout: float = 90.0) -> dict[str, Any]:
    """Has another process start JAX, since that may hang or crash, and would keep a TPU or GPU memory for itself.

    Returns:
        `devices` (platform, kind, bytes of memory or None) and `cache`, the compilation cache's folder or None; or
        `error` alone. `warnings`: what JAX wrote to standard error.
    """
    command = [sys.executable, "-P", "-c", PROBE]
    quiet = {**environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        result = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout:g} s"}
    lines = result.stderr.strip().splitlines()
    if result.returncode != 0:
        setting = f" (JAX_PLATFORMS is {environ['JAX_PLATFORMS']})" if environ.get("JAX_PLATFORMS") else ""
        return {"error": (lines[-1] if lines else f"exit code {result.returncode}") + setting}
    return json.loads(result.stdout.splitlines()[-1]) | {"warnings": lines}


def devices(answer: Mapping[str, Any]) -> Finding:
    """The devices in an answer of `ask_jax`."""
    if "error" in answer:
        whole = "see the whole message with: python -c 'import jax; print(jax.devices())'"
        return Finding("problem", "devices", f"JAX does not start: {answer['error']}", whole)
    counts = Counter(kind + (f" with {memory / GB:.0f} GB" if memory else "") for _, kind, memory in answer["devices"])
    return Finding("ok", "devices", ", ".join(f"{count} x {kind}" for kind, count in counts.items()))


def accelerators(
    root: Path, environ: Mapping[str, str], answer: Mapping[str, Any], installed: Mapping[str, str]
) -> Finding:
    """Whether JAX uses the accelerator that driver, device files or environment variables show."""
    used = _platforms(answer) & {"gpu", "tpu"}
    if used:
        return Finding("ok", "accelerator", f"{' and '.join(sorted(used))} in use")
    dev, smi = root / "dev", shutil.which("nvidia-smi", path=environ.get("PATH", ""))
    gpu = [str(path) for path in (root / "proc/driver/nvidia", *dev.glob("nvidia[0-9]*")) if path.exists()]
    tpu = [*map(str, dev.glob("accel[0-9]*")), *(name for name in TPU_VARIABLES if environ.get(name))]
    hints = [*map(str, dev.glob("vfio/[0-9]*")), *([smi] if smi else [])]
    if not gpu + tpu + hints:
        return Finding("ok", "accelerator", "none seen")
    found = f"{'NVIDIA GPU' if gpu else 'TPU' if tpu else 'perhaps one'} ({', '.join(gpu or tpu or hints)}), not in use"
    off = [name for name, values in HIDING.items() if environ.get(name) in values]
    if off:
        return Finding("note", "accelerator", found, f"unset {' '.join(off)}")
    if not gpu + tpu:
        return Finding("note", "accelerator", found, f"if so, {GPU_REMEDY}, or for a TPU {TPU_REMEDY}")
    if any(name.startswith("jax-cuda" if gpu else "libtpu") for name in installed):
        said = "; ".join(answer.get("warnings", ())) or answer.get("error", "nothing")
        remedy = DRIVER_REMEDY if gpu else "end the process that holds it, or start the machine anew"
        return Finding("problem", "accelerator", f"{found}; JAX says: {said}", remedy)
    return Finding("problem", "accelerator", found, GPU_REMEDY if gpu else TPU_REMEDY)


def _platforms(answer: Mapping[str, Any]) -> set[str]:
    return {platform for platform, _, _ in answer.get("devices", ())}


def cores(root: Path) -> Finding:
    """CPU cores and memory, and what a container allows of them."""
    count = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{count} cores, {memory / GB:.0f} GB of memory, {platform.machine()}"
    quota = root / "sys/fs/cgroup/cpu.max"  # microseconds allowed and of how many, "max" for no limit
    allowed = quota.read_text().split() if quota.exists() else ["max"]
    if allowed[0] != "max" and (share := int(allowed[0]) / int(allowed[1])) < count:
        return Finding("note", "CPU", f"{found}; the container may use {share:g}", "raise the container's CPU limit")
    return Finding("ok", "CPU", found)


def huge_pages(root: Path, environ: Mapping[str, str], answer: Mapping[str, Any]) -> Finding:
    """Whether memory comes in pages of 4 KiB, although Linux would give larger ones and the CPU is what trains.

    Each step takes hundreds of megabytes from glibc and gives them back, so the next one meets every page anew.
    """
    setting = root / "sys/kernel/mm/transparent_hugepage/enabled"  # "always [madvise] never": on request alone
    on_request = setting.exists() and "[madvise]" in setting.read_text()
    if _platforms(answer) != {"cpu"} or not on_request or "hugetlb" in environ.get("GLIBC_TUNABLES", ""):
        return Finding("ok", "huge pages", "nothing to gain")
    found = "off; with them, a CPU trains 1.2 to 1.5 times as fast"
    return Finding("note", "huge pages", found, "export GLIBC_TUNABLES=glibc.malloc.hugetlb=1")


def requirements(wanted: Iterable[str], installed: Mapping[str, str]) -> Finding:
    """Whether Python and the packages have the versions that the project declares, its extras left out."""
    parsed = map(Requirement, wanted)
    needed = [it for it in parsed if it.marker is None or it.marker.evaluate({"extra": ""})]
    met = [it for it in needed if it.name in installed and it.specifier.contains(installed[it.name], prereleases=True)]
    lacking = [it for it in needed if it not in met]
    if lacking:
        found = ", ".join(f"{it.name} {installed.get(it.name, 'missing')} (wanted {it})" for it in lacking)
        remedies = [f"make an environment with {it}" for it in lacking if it.name == "python"]
        if packages := [f"'{it}'" for it in lacking if it.name != "python"]:
            remedies.append(f"pip install -U {' '.join(packages)}")
        return Finding("problem", "packages", found, ", and ".join(remedies))
    named = ", ".join(f"{name} {installed[name]}" for name in ("python", *FAMILY) if name in installed)
    return Finding("ok", "packages", f"{named}; all {len(needed)} requirements are met")


def _installed(names: Iterable[str]) -> dict[str, str]:
    """Versions by name, of those installed."""
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def jax_family(installed: Mapping[str, str]) -> Finding:
    """Whether jaxlib and the CUDA plugins are of JAX's version, without which JAX fails or leaves the GPU unused."""
    versions = {name: installed[name] for name in FAMILY if name.startswith("jax") and name in installed}
    minors = {tuple(Version(version).release[:2]) for version in versions.values()}
    plugins = {version for name, version in versions.items() if "cuda" in name}
    if len(minors) <= 1 and plugins <= {versions.get("jaxlib")}:
        return Finding("ok", "jax family", "one version")
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding("problem", "jax family", f"{found} do not fit together", f"pip install -U {' '.join(versions)}")


def tensorflow(installed: Mapping[str, str], modules: Container[str], *, gpu: bool) -> Finding:
    """Whether TensorFlow can take the GPU's memory away from JAX."""
    name = next((name for name in TENSORFLOW if name in installed), None)
    if name is None:
        return Finding("ok", "TensorFlow", "not installed, nor needed")
    found = f"{name} {installed[name]}, {'imported by this process' if 'tensorflow' in modules else 'not imported'}"
    if not gpu or name == "tensorflow-cpu":
        return Finding("ok", "TensorFlow", found)
    remedy = "it takes all memory of the GPU where it is used: first tf.config.set_visible_devices([], 'GPU')"
    return Finding("problem" if "tensorflow" in modules else "note", "TensorFlow", found, remedy)


def compilation_cache(folder: str | None) -> Finding:
    """Where JAX keeps compiled programs from one start to the next."""
    if folder is None:
        remedy = "export JAX_COMPILATION_CACHE_DIR=$HOME/.cache/jax"
        return Finding("note", "compilations", "not kept: each start compiles anew", remedy)
    size = sum(path.stat().st_size for path in Path(folder).glob("*") if path.is_file())
    return Finding("ok", "compilations", f"kept in {folder}, {size / GB:.2f} GB")


def disk(what: str, folder: Path, remedy: str) -> Finding:
    """Room where something is written."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / GB:,.1f} GB free at {folder}"
    if free > 10 * GB:
        return Finding("ok", f"disk of {what}", found)
    return Finding("note" if free > GB else "problem", f"disk of {what}", found, f"make room, or {remedy}")


def prepared(data_dir: Path) -> Finding:
    """The data sets in a TFDS folder."""
    names = sorted(path.relative_to(data_dir).as_posix() for path in prepared_folders(data_dir))
    if names:
        return Finding("ok", "data sets", f"{', '.join(names)} in {data_dir}")
    remedy = f"none is needed: {', '.join(OWN)} are prepared on first use; for another folder set TFDS_DATA_DIR"
    return Finding("note", "data sets", f"none in {data_dir}", remedy)


def decoding(count: int = 128) -> Finding:
    """Speed at which JPEG files of a photograph's usual size become arrays."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
    photograph = np.clip(np.asarray(smooth) + rng.normal(0, 12, (375, 500, 1)), 0, 255).astype(np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(photograph).save(jpeg, "jpeg", quality=90)
    start = time.perf_counter()
    decode([Example("made here", jpeg.getvalue(), 0)] * count, image_size=224)
    speed = count / (time.perf_counter() - start)
    size = f"JPEG of 500x375 and {len(jpeg.getvalue()) / 1000:.0f} kB, to 224x224"
    return Finding("ok", "decoding", f"{speed:,.0f} images/s ({size}), once for each data set")
