"""What a compiled program needs on each chip, according to its compiler."""

import re
from dataclasses import dataclass
from typing import Any

import jax

from resnet_jax.hardware.hlo import collectives, memory_traffic

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = r"([\d.]+)([KMGT])"
REFUSAL = re.compile(rf"Used {SIZE} of {SIZE} hbm|temporaries \({SIZE}\) exceeds available HBM \({SIZE}\)")


@dataclass(frozen=True)
class Work:
    """Work of one step on each chip."""

    flops: float
    bytes_accessed: float
    """Bytes by the compiler's own count: a TPU's includes what stays in fast memory, a GPU's lacks the convolutions."""
    traffic_bytes: int
    """Bytes read from and written to a chip's main memory; see `memory_traffic`."""
    collectives: int
    """Number of operations between the chips."""
    collective_bytes: int
    """Bytes of their operands."""
    sent_bytes: float
    """Bytes that a chip sends for them, at least."""


def memory_of(compiled: jax.stages.Compiled) -> int:
    """Return the bytes on each chip: arguments, outputs and temporaries, without what outputs share with arguments."""
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def work_of(compiled: jax.stages.Compiled, flops: float, devices: int) -> Work:
    """Return the work of a compiled program.

    Args:
        compiled: the program.
        flops: of one chip, for compilers that do not count them: those of GPUs, whose convolutions are calls of cuDNN.
        devices: number of devices that it was compiled for.
    """
    costs: Any = compiled.cost_analysis()
    if costs is None:
        executable: Any = compiled.runtime_executable()
        from jaxlib import _jax  # not available from a public module

        client = jax.local_devices(backend="cpu")[0].client
        costs = _jax.hlo_module_cost_analysis(client, executable.hlo_modules()[0]) | {"flops": flops}
    text = compiled.as_text() or ""
    return Work(costs["flops"], costs["bytes accessed"], memory_traffic(text), *collectives(text, devices))


def tpu_refusal(error: jax.errors.JaxRuntimeError) -> tuple[int, int]:
    """Return the bytes that a refused TPU program needs at least, and that a chip has, from the compiler's message.

    Raises:
        JaxRuntimeError: the error is a different one.
    """
    found = REFUSAL.search(str(error))
    if found is None:
        raise error
    number, unit, of_number, of_unit = filter(None, found.groups())
    return round(float(number) * UNITS[unit]), round(float(of_number) * UNITS[of_unit])


def tpu_memory(device: jax.Device) -> int:
    """Return the bytes that programs may use on a TPU, which its compiler reports when it refuses a program."""
    array = jax.ShapeDtypeStruct((2**42,), "uint8", sharding=jax.sharding.SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(array).compile()
    except jax.errors.JaxRuntimeError as error:
        return tpu_refusal(error)[1]
    raise AssertionError("a program of 8 TiB compiled for one chip")
