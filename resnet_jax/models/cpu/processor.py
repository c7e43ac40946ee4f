"""What the processor and jaxlib's libraries offer, read without importing JAX."""

import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]
"""Type of a computation; "auto" is bfloat16 where the processor has instructions for it, otherwise float32."""
TESTED = ("0.10.", "0.11.", "0.12.")
"""Releases of jaxlib whose calls of oneDNN are tested: their form is jaxlib's own, and may change."""
BFLOAT16 = {"amx_bf16", "avx512_bf16"}
"""Flags of Linux for instructions that multiply bfloat16 numbers."""
INT8 = {"amx_int8", "avx512_vnni", "avx_vnni"}
"""Those that multiply 8-bit integers and add up the products in 32 bits."""


@cache
def has_onednn() -> bool:
    """Tell whether this jaxlib has the library oneDNN, and takes its calls in the tested form."""
    here = platform.system() == "Linux" and platform.machine() == "x86_64"
    return here and version("jaxlib").startswith(TESTED)


def has_bfloat16() -> bool:
    """Tell whether the processor multiplies bfloat16 numbers: AMX or AVX512-BF16."""
    return not BFLOAT16.isdisjoint(_flags())


def has_int8() -> bool:
    """Tell whether the processor multiplies 8-bit integers: AMX, AVX512-VNNI or AVX-VNNI."""
    return not INT8.isdisjoint(_flags())


@cache
def _flags() -> set[str]:
    try:
        listed = Path("/proc/cpuinfo").read_text()
    except OSError:  # another system than Linux
        return set()
    return set(next((line for line in listed.splitlines() if line.startswith("flags")), "").split())
