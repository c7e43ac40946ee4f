"""What a compiler says that a program needs of each chip."""

import re
from dataclasses import dataclass
from typing import Any

import jax

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = r"([\d.]+)([KMGT])"
REFUSAL = re.compile(rf"Used {SIZE} of {SIZE} hbm|temporaries \({SIZE}\) exceeds available HBM \({SIZE}\)")
INSTRUCTION = re.compile(r"%(?P<name>[\w.-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w-]+)\((?P<operands>.*?)\)")
SENT = {  # bytes that a chip sends for each byte of its operand, among n chips in a ring
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "collective-permute": lambda n: 1,
}


@dataclass(frozen=True)
class Work:
    """What one step does on each chip."""

    flops: float
    bytes_accessed: float
    """Read from and written to memory, by the compiler's count."""
    collectives: int
    """Operations between the chips."""
    collective_bytes: int
    """Of their operands."""
    sent_bytes: float
    """What a chip then sends, at least."""

    def times(self, count: int) -> "Work":
        return Work(*(count * value for value in vars(self).values()))


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
    return Work(costs["flops"], costs["bytes accessed"], *collectives(compiled.as_text() or "", devices))


def collectives(text: str, devices: int) -> tuple[int, int, float]:
    """Counts the operations between chips in an optimised HLO module.

    Args:
        text: the module. Each operation counts once; loops are not multiplied.
        devices: chips, all of which take part in each operation.

    Returns:
        Their number, the bytes of their operands on a chip, and the bytes that a chip sends in rings (Patarasuk and
        Yuan 2009, "Bandwidth optimal all-reduce algorithms").
    """
    instructions = list(INSTRUCTION.finditer(text))
    sizes = {each["name"]: size_of(each["type"]) for each in instructions}
    count, operand_bytes, sent_bytes = 0, 0, 0.0
    for each in instructions:
        kind = each["op"].removesuffix("-start")
        if kind in SENT:
            size = sum(sizes[name] for name in re.findall(r"%([\w.-]+)", each["operands"]))
            count, operand_bytes, sent_bytes = count + 1, operand_bytes + size, sent_bytes + SENT[kind](devices) * size
    return count, operand_bytes, sent_bytes


def size_of(type: str) -> int:
    """Bytes of an HLO type, "f32[8,16]{1,0}" or a tuple of such, without padding."""
    total = 0
    for name, shape in re.findall(r"(\w+)\[([\d,]*)\]", type):
        bits = re.search(r"\d+", name)
        elements = 1
        for axis in filter(None, shape.split(",")):
            elements *= int(axis)
        total += elements * (int(bits[0]) if bits else 8) // 8
    return total


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
