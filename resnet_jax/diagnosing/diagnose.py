"""All checks of `doctor`."""

import importlib.metadata
import sys
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

from resnet_jax.data.reading.cache import image_cache
from resnet_jax.diagnosing import cluster, devices, packages, storage
from resnet_jax.diagnosing.finding import Finding
from resnet_jax.diagnosing.jax_process import ask_jax


def diagnose(root: Path, environ: Mapping[str, str], data_dir: Path) -> list[Finding]:
    """Check devices, versions, caches, disks, data sets and decoding speed.

    Args:
        root: of the file system.
        environ: environment variables.
        data_dir: TFDS folder to look into.
    """
    own = importlib.metadata.metadata("resnet-nnx")
    needed = [f"python{own['Requires-Python']}", *(own.get_all("Requires-Dist") or ())]
    names = [*packages.FAMILY, *packages.TENSORFLOW, *(Requirement(each).name for each in needed)]
    installed, answer = packages.installed_versions(names), ask_jax(environ)
    return [
        devices.devices(answer),
        devices.accelerators(root, environ, answer, installed),
        devices.cores(root),
        *([cluster.slurm(environ)] if "SLURM_JOB_ID" in environ else []),
        devices.huge_pages(root, environ, answer),
        devices.bfloat16(answer),
        packages.requirements(needed, installed),
        packages.jax_family(installed),
        packages.tensorflow(installed, sys.modules, gpu="gpu" in devices.platforms(answer)),
        storage.compiled_programs(answer.get("cache", environ.get("JAX_COMPILATION_CACHE_DIR"))),
        storage.decoded_images(),
        storage.disk("runs", Path.cwd(), "`train --workdir FOLDER` with a folder on another disk"),
        storage.disk("image cache", image_cache(), "set XDG_CACHE_HOME to a folder on another disk"),
        storage.disk("data sets", data_dir, "set TFDS_DATA_DIR to a folder on another disk"),
        storage.prepared(data_dir),
        storage.decoding(),
    ]
