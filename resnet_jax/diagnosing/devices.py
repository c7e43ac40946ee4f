"""Whether JAX uses what the machine has: accelerators, cores, huge pages, bfloat16."""

import os
import platform
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_jax.diagnosing.finding import Finding
from resnet_jax.models.cpu.processor import has_bfloat16, has_onednn

TPU_VARIABLES = ("TPU_NAME", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "COLAB_TPU_ADDR", "COLAB_TPU_1VM")
HIDING = {"JAX_PLATFORMS": ("cpu",), "CUDA_VISIBLE_DEVICES": ("", "-1")}
GPU_REMEDY = "pip install -e '.[cuda13]' in a checkout of this project, which needs NVIDIA's driver 580 or newer"
DRIVER_REMEDY = "run nvidia-smi: the driver must be 580 or newer; for one from 525 to 579: pip install 'jax[cuda12]'"
TPU_REMEDY = "pip install -e '.[tpu]' in a checkout of this project"
GB = 1e9


def devices(answer: Mapping[str, Any]) -> Finding:
    """Report the devices in an answer of `ask_jax`."""
    if "error" in answer:
        whole = "see the whole message with: python -c 'import jax; print(jax.devices())'"
        return Finding("problem", "devices", f"JAX does not start: {answer['error']}", whole)
    counts = Counter(kind + (f" with {memory / GB:.0f} GB" if memory else "") for _, kind, memory in answer["devices"])
    return Finding("ok", "devices", ", ".join(f"{count} x {kind}" for kind, count in counts.items()))


def accelerators(
    root: Path, environ: Mapping[str, str], answer: Mapping[str, Any], installed: Mapping[str, str]
) -> Finding:
    """Report whether JAX uses the accelerator that driver, device files or environment variables show."""
    used = platforms(answer) & {"gpu", "tpu"}
    if used:
        return Finding("ok", "accelerator", f"{' and '.join(sorted(used))} in use")
    dev, smi = root / "dev", shutil.which("nvidia-smi", path=environ.get("PATH", ""))
    gpu = [str(path) for path in (root / "proc/driver/nvidia", *dev.glob("nvidia[0-9]*")) if path.exists()]
    tpu = [*map(str, dev.glob("accel[0-9]*")), *(name for name in TPU_VARIABLES if environ.get(name))]
    hints = [*map(str, dev.glob("vfio/[0-9]*")), *([smi] if smi else [])]
    if not gpu + tpu + hints:
        return Finding("ok", "accelerator", "none found")
    found = f"{'NVIDIA GPU' if gpu else 'TPU' if tpu else 'perhaps one'} ({', '.join(gpu or tpu or hints)}), not in use"
    off = [name for name, values in HIDING.items() if environ.get(name) in values]
    if off:
        return Finding("note", "accelerator", found, f"unset {' '.join(off)}")
    if not gpu + tpu:
        return Finding("note", "accelerator", found, f"for a GPU: {GPU_REMEDY}; for a TPU: {TPU_REMEDY}")
    if any(name.startswith("jax-cuda" if gpu else "libtpu") for name in installed):
        said = "; ".join(answer.get("warnings", ())) or answer.get("error", "nothing")
        remedy = DRIVER_REMEDY if gpu else "end the process that uses it, or restart the machine"
        return Finding("problem", "accelerator", f"{found}; JAX says: {said}", remedy)
    return Finding("problem", "accelerator", found, GPU_REMEDY if gpu else TPU_REMEDY)


def platforms(answer: Mapping[str, Any]) -> set[str]:
    return {platform for platform, _, _ in answer.get("devices", ())}


def cores(root: Path) -> Finding:
    """Report CPU cores and memory, and the share of them that a container allows."""
    count = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{count} cores, {memory / GB:.0f} GB of memory, {platform.machine()}"
    quota = root / "sys/fs/cgroup/cpu.max"  # microseconds allowed and of how many, "max" for no limit
    allowed = quota.read_text().split() if quota.exists() else ["max"]
    if allowed[0] != "max" and (share := int(allowed[0]) / int(allowed[1])) < count:
        return Finding("note", "CPU", f"{found}; the container may use {share:g}", "raise the container's CPU limit")
    return Finding("ok", "CPU", found)


def huge_pages(root: Path, environ: Mapping[str, str], answer: Mapping[str, Any]) -> Finding:
    """Report whether memory has pages of 4 KiB, although Linux offers larger ones and the training runs on the CPU.

    Each step takes hundreds of megabytes from glibc and returns them, so that the next step maps every page again.
    """
    setting = root / "sys/kernel/mm/transparent_hugepage/enabled"  # "always [madvise] never": on request alone
    on_request = setting.exists() and "[madvise]" in setting.read_text()
    if platforms(answer) != {"cpu"} or not on_request or "hugetlb" in environ.get("GLIBC_TUNABLES", ""):
        return Finding("ok", "huge pages", "nothing to gain")
    found = "off; with them, a CPU trains 1.2 to 1.5 times as fast"
    return Finding("note", "huge pages", found, "export GLIBC_TUNABLES=glibc.malloc.hugetlb=1")


def bfloat16(answer: Mapping[str, Any]) -> Finding:
    """Report whether `--dtype auto` is bfloat16: on a CPU with instructions for it, in the releases that are tested."""
    if platforms(answer) != {"cpu"}:
        return Finding("ok", "bfloat16", "by the accelerator")
    if not has_bfloat16():
        return Finding("ok", "bfloat16", "the processor has no instructions for it")
    if not has_onednn():
        found = "the processor has instructions for it, but with this jaxlib they are not used"
        return Finding("note", "bfloat16", found, "pip install 'jax>=0.10,<0.13', for which they are tested")
    return Finding("ok", "bfloat16", "predict and serve compute in it, 1.4 to 3 times as fast as in float32")
