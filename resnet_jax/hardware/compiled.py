"""What a compiler says that a program needs of each chip."""

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
    """What one step does on each chip."""

    flops: float
    bytes_accessed: float
    """By the compiler's own count: a TPU's has also what stays in its fast memory, a GPU's has no convolutions."""
    traffic_bytes: int
    """Read from and written to a chip's main memory; see `memory_traffic`."""
    collectives: int
    """Operations between the chips."""
    collective_bytes: int
    """Of their operands."""
    sent_bytes: float
    """What a chip then sends, at least."""


def memory_of(compiled: jax.stages.Compiled) -> int:
    """Bytes on each chip: arguments, outputs and temporaries, without what outputs share with arguments."""
    memory: Any = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )


def work_of(compiled: jax.stages.Compiled, flops: float, devices: int) -> Work:
    """Reads the work off a compiled program.

    Args:
        flops: of one chip, for compilers that do not count them: those of GPUs, whose convolutions are calls of cuDNN.
        devices: that it was compiled for.
    """
    costs: Any = compiled.cost_analysis()
    if costs is None:
        executable: Any = compiled.runtime_executable()
        from jaxlib import _jax  # which no public module gives

        client = jax.local_devices(backend="cpu")[0].client
        costs = _jax.hlo_module_cost_analysis(client, executable.hlo_modules()[0]) | {"flops": flops}
    text = compiled.as_text() or ""
    return Work(costs["flops"], costs["bytes accessed"], memory_traffic(text), *collectives(text, devices))


def tpu_refusal(error: jax.errors.JaxRuntimeError) -> tuple[int, int]:
    """Bytes that a TPU program needs at least, and that a chip has, as the compiler says when it refuses the program.

    Raises:
        JaxRuntimeError: it is another error.
    """
    found = REFUSAL.search(str(error))
    if found is None:
        raise error
    number, unit, of_number, of_unit = filter(None, found.groups())
    return round(float(number) * UNITS[unit]), round(float(of_number) * UNITS[of_unit])


def tpu_memory(device: jax.Device) -> int:
    """Bytes that programs may use on a TPU, which its compiler says when it refuses one that is too large."""
    array = jax.ShapeDtypeStruct((2**42,), "uint8", sharding=jax.sharding.SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(array).compile()
    except jax.errors.JaxRuntimeError as error:
        return tpu_refusal(error)[1]
    raise AssertionError("a program of 8 TiB compiled for one chip")
