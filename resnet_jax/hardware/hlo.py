"""Bytes that an optimized HLO module moves, read from its text."""

import math
import re
from functools import partial

INSTRUCTION = re.compile(r"%(?P<name>[\w.-]+) = (?P<type>\(.*?\)|\S+) (?P<op>[\w-]+)\((?P<operands>.*?)\)(?P<rest>.*)")
ARRAY = re.compile(r"(?P<type>\w+)\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^{}]*)\})?")
SENT = {  # bytes that a chip sends per byte of its operand, among n chips in a ring
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "all-gather": lambda n: n - 1,
    "collective-permute": lambda n: 1,
}
NO_WORK = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}
GROUPS = re.compile(r"replica_groups=(?:\[\d+,(?P<size>\d+)\]<=|\{\{(?P<first>[\d,]+)\})")
PARTS = {"copy-done", "slice-done", "slice", "dynamic-slice"}
"""Operations that read no more of an operand than they write."""


def collectives(text: str, devices: int) -> tuple[int, int, float]:
    """Count the operations between chips in an optimized HLO module.

    Args:
        text: the module. Each operation counts once, also in a loop.
        devices: number of chips, all of which take part in an operation that names no groups of them.

    Returns:
        Their number, the bytes of their operands on a chip, and the bytes that a chip sends in a ring (Patarasuk and
        Yuan 2009, "Bandwidth optimal all-reduce algorithms").
    """
    instructions = list(INSTRUCTION.finditer(text))
    sizes = {each["name"]: size_of(each["type"]) for each in instructions}
    count, operand_bytes, sent_bytes = 0, 0, 0.0
    for each in instructions:
        kind = each["op"].removesuffix("-start")
        if kind in SENT:
            size = sum(sizes[name] for name in _operands(each))
            sent = SENT[kind](_group(each, devices)) * size
            count, operand_bytes, sent_bytes = count + 1, operand_bytes + size, sent_bytes + sent
    return count, operand_bytes, sent_bytes


def memory_traffic(text: str) -> int:
    """Count the bytes that an optimized HLO module reads from and writes to a chip's main memory.

    Each instruction reads its operands and writes its result, except those in another memory: on a TPU, maps stay in
    fast memory or are brought there by copies that run beside the arithmetic. The padding of a TPU's tiles is included.
    A fusion is one instruction, and so is a convolution that a library computes. What a GPU's cache keeps from one
    instruction to the next is included.

    Args:
        text: the module, without loops.
    """
    instructions = {each["name"]: each for each in INSTRUCTION.finditer(text[text.index("ENTRY ") :])}
    stored = partial(size_of, padded=True)

    def from_memory(each: re.Match) -> int:
        return sum(stored(instructions[name]["type"], main=True) for name in _operands(each))

    total = 0
    for each in instructions.values():
        op = each["op"]
        if op in NO_WORK or op.endswith("-start") or 'custom_call_target="ConcatBitcast"' in each["rest"]:
            continue
        first_half = instructions[_operands(each)[0]] if op.endswith("-done") else each
        read, written = from_memory(first_half), stored(each["type"], main=True)
        total += written + (min(read, stored(each["type"])) if op in PARTS else read)
    return total


def size_of(type: str, *, padded: bool = False, main: bool = False) -> int:
    """Return the bytes of an HLO type, such as "f32[8,16]{1,0:T(8,128)}", or of a tuple of types.

    Args:
        type: text of the type.
        padded: include the padding of the tiles of a TPU's layout: T(8,128), over the layout's first two axes.
        main: count only arrays in main memory.
    """
    total = 0
    for array in ARRAY.finditer(type):
        layout = array["layout"] or ""
        if main and re.search(r"S\([1-9]", layout):
            continue
        bits = re.search(r"\d+", array["type"])
        shape, tile = _integers(array["shape"]), re.search(r"T\(([\d,]+)\)", layout)
        if padded and tile:
            for axis, length in zip(_integers(layout.split(":")[0]), reversed(_integers(tile[1])), strict=False):
                shape[axis] = -(-shape[axis] // length) * length
        total += math.prod(shape) * (int(bits[0]) if bits else 8) // 8
    return total


def _integers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


def _group(instruction: re.Match, devices: int) -> int:
    """Return the number of chips among which an operation exchanges: all, or those of its first group."""
    groups = GROUPS.search(instruction["rest"])
    if groups is None:
        return devices
    return int(groups["size"]) if groups["size"] else len(_integers(groups["first"]))


def _operands(instruction: re.Match) -> list[str]:
    return re.findall(r"%([\w.-]+)", instruction["operands"])
