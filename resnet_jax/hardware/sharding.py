"""Devices: one mesh with the axis "data"; the state is on every device, the batch is divided among them."""

import contextlib
import os

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from resnet_jax.errors import UsageError


def split_cpu(batch_size: int, devices: int | None) -> None:
    """Makes JAX see a CPU as `devices` devices, or as the next smaller number that divides `batch_size`.

    Not all of XLA's work on one CPU device is spread over its cores; between two devices, statistics and gradients are
    summed. So None is a device for every two cores, with at least 32 images for each. Has no effect on other
    accelerators, where XLA_FLAGS already sets a number, or once JAX has started.
    """
    if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = devices or max(min(cores // 2, batch_size // 32), 1)
    count = max(n for n in range(1, wanted + 1) if batch_size % n == 0)
    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", count)


def make_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """Makes the mesh of all visible devices (or of `devices`).

    Raises:
        UsageError: `batch_size` does not divide evenly among them.
    """
    devices = devices or jax.devices()
    if batch_size % len(devices):
        near = max(batch_size // len(devices), 1) * len(devices)
        raise UsageError(
            f"--train.batch-size: got {batch_size} for {len(devices)} devices, wanted a multiple of {len(devices)}, "
            f"for example --train.batch-size {near}"
        )
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Dimension `axis` divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def place(tree: PyTree[np.ndarray], sharding: NamedSharding) -> PyTree[jax.Array]:
    """Puts host arrays, the same in every process, onto the devices."""
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)
