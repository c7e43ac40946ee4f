"""Machines that are not present, as their compilers see them."""

import math
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental.topologies import get_topology_desc

from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.chips import CHIPS, Chip

AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
"""Number of dimensions of a TPU slice."""
GPUS_OF_A_HOST = 8
JAX_SHARE = 0.75
"""Share of a GPU's memory that JAX reserves when it starts; XLA_PYTHON_CLIENT_MEM_FRACTION changes it."""
EXPECTED = "a slice of TPU chips such as v5e:4x4, v6e:2x2, v4:2x2x1 or v5p:2x2x4, or h100, a100, h100:8, a100:8"
REMEDY = "pip install -e '.[plan]' in a checkout of this project, in an environment of its own"
TPU_ENVIRONMENT = {  # without these libtpu asks a metadata server which machine it runs on, and fails
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any known type: the name of the topology decides
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two compilers at once, or one beside a training on this machine's TPU
}
GPU_DESCRIPTION = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 shared_memory_per_block: 49152
  core_count: {cores} fpus_per_core: {fpus} clock_rate_ghz: {clock} cuda_compute_capability {{ major: {major} }}
  shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared_optin} l2_cache_size: {l2}
  device_memory_size: {memory} memory_bandwidth: {bandwidth}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""
GPUS: dict[
    str, dict[str, Any]
] = {  # from NVIDIA's data sheets and tuning guides; the figures of openxla/xla, target_config/specs
    "a100": {
        **{"cores": 108, "fpus": 64, "clock": 1.41, "major": 8, "shared": 167936, "shared_optin": 166912},
        **{"l2": 41943040, "memory": 42331013120, "bandwidth": 1555200000000},
    },
    "h100": {
        **{"cores": 132, "fpus": 128, "clock": 1.98, "major": 9, "shared": 233472, "shared_optin": 232448},
        **{"l2": 52428800, "memory": 84942979072, "bandwidth": 3352320000000},
    },
}


@dataclass(frozen=True)
class Target:
    """Chips of one kind, connected by their fast network."""

    name: str
    chip: Chip
    shape: tuple[int, ...]
    """Shape of a TPU slice; for GPUs their number."""

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def is_tpu(self) -> bool:
        return self.chip.name in AXES

    @property
    def memory_bytes(self) -> int:
        """Memory of a chip for programs: JAX's share of what a GPU's driver reports, and nearly that of a TPU."""
        return self.chip.memory_bytes if self.is_tpu else int(JAX_SHARE * GPUS[self.chip.name]["memory"])

    @property
    def hops(self) -> int:
        """Links between the two chips that are farthest apart, at least.

        An axis of a TPU slice is a ring, if it has all 16 chips (v5e, v6e) or a multiple of 4 (v4, v5p).
        """
        if not self.is_tpu:
            return min(self.count - 1, 1)
        ring = 16 if AXES[self.chip.name] == 2 else 4
        return sum(length // 2 if length % ring == 0 else length - 1 for length in self.shape)


def parse_target(text: str) -> Target:
    """Parse the name of a target.

    Raises:
        UsageError: there is no such machine.
    """
    kind, _, layout = text.lower().partition(":")
    chip = next((chip for chip in CHIPS if chip.name == kind and (kind in AXES or kind in GPUS)), None)
    if chip is None or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", layout or ("1" if kind in GPUS else "")):
        raise UsageError(f"--target: got {text}, expected {EXPECTED}")
    target = Target(text.lower(), chip, tuple(map(int, (layout or "1").split("x"))))
    if not target.is_tpu and (len(target.shape) > 1 or target.count > GPUS_OF_A_HOST):
        raise UsageError(f"--target: got {text}, expected 1 to {GPUS_OF_A_HOST} GPUs of one machine, such as {kind}:8")
    if target.is_tpu and len(target.shape) != AXES[kind]:
        example = "x".join(["2", "2", "1"][: AXES[kind]])
        raise UsageError(
            f"--target: got {text}, expected {AXES[kind]} dimensions of the slice, such as {kind}:{example}"
        )
    if target.is_tpu and target.count > 1 and (target.shape[0] % 2 or target.shape[1] % 2):
        raise UsageError(
            f"--target: got {text}, expected even sizes, because a TPU host has 2x2 chips; or a single chip"
        )
    return target


def devices_of(target: Target) -> list[jax.Device]:
    """Return the target's devices, for which programs can be compiled but not executed.

    JAX itself must stay on the CPU: `jax.config.update("jax_platforms", "cpu")`.

    Raises:
        UserError: the compiler is not installed.
    """
    if target.is_tpu:
        return _tpus(target)
    description = GPU_DESCRIPTION.format(name=target.chip.device_kinds[0], **GPUS[target.chip.name])
    layout = f"1x1x{target.count}"  # slices, hosts of a slice, devices of a host
    try:
        topology = get_topology_desc(layout, "cuda", topology=layout, target_config=description)
    except NotImplementedError as error:
        raise UserError(f"JAX's CUDA plugin, which compiles for {target.name}, is not installed: {REMEDY}") from error
    return list(topology.devices)


def _tpus(target: Target) -> list[jax.Device]:
    if find_spec("libtpu") is None:
        raise UserError(f"libtpu, which compiles for {target.name}, is not installed: {REMEDY}")
    os.environ.update(TPU_ENVIRONMENT)
    options: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if target.count == 1 else {}
    if target.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # one device per chip, as JAX has on a v4
    return list(get_topology_desc(target.name, "tpu", **options).devices)
