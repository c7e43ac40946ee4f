"""Devices: one mesh with the axis "data"; the state is on every device, the batch is divided among them.

JAX sees a CPU as one device; with JAX_NUM_CPU_DEVICES=N in the environment, as N devices.
"""

import os
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware import processes

Result = TypeVar("Result")


def find_devices() -> list[jax.Device]:
    """Return JAX's devices.

    Raises:
        UserError: JAX can't start them.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or "JAX gives no reason").splitlines()[0]
        asked = os.environ.get("JAX_PLATFORMS")
        remedy = f"JAX_PLATFORMS={asked} is set: unset it" if asked else "run `resnet-jax doctor`"
        raise UserError(f"JAX can't start its devices ({reason}); {remedy}") from error


def make_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """Make the mesh of all visible devices (or of `devices`).

    Raises:
        UsageError: `batch_size` does not divide evenly among them.
        UserError: JAX can't start them.
    """
    devices = devices or find_devices()
    if batch_size % len(devices):
        near = max(batch_size // len(devices), 1) * len(devices)
        raise UsageError(
            f"--train.batch-size: got {batch_size} for {len(devices)} devices, expected a multiple of {len(devices)}, "
            f"for example --train.batch-size {near}"
        )
    if processes.count() > 1:  # the devices of a process side by side, since it loads one part of each batch
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        return Mesh(np.array(ordered), ("data",), axis_types=(AxisType.Auto,))
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that puts the whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Return the sharding that divides dimension `axis` among the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def place(tree: PyTree[np.ndarray], sharding: NamedSharding) -> PyTree[jax.Array]:
    """Put host arrays, the same in every process, onto the devices."""
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def own_part() -> tuple[int, int]:
    """Return which part of each batch this process loads, from 0, and the number of parts."""
    return jax.process_index(), jax.process_count()


def from_parts(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Make one array over all processes, each of which gives its part."""
    return jax.make_array_from_process_local_data(sharding, local)


def replicate(tree: PyTree, mesh: Mesh) -> PyTree[jax.Array]:
    """Put arrays, the same in every process, onto all devices."""
    if processes.count() == 1:
        return jax.device_put(tree, replicated(mesh))
    return jax.tree.map(lambda leaf: _replicate(leaf, replicated(mesh)), tree)  # device_put would compare each of them


def settle(result: Result) -> Result:
    """Wait for a program's result if JAX sees the CPU as several devices, and return it.

    There, programs that sum over devices can deadlock if several are queued.
    """
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        jax.block_until_ready(result)
    return result


def _replicate(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(
            place(np.asarray(jax.random.key_data(leaf)), sharding), impl=jax.random.key_impl(leaf)
        )
    return place(np.asarray(leaf), sharding)
