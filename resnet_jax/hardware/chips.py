"""Data sheets of accelerators: rates and memory, with which measurements and plans are compared."""

from dataclasses import dataclass

GB = 10**9
GIB = 2**30
TERA = 10**12
HOP = 1e-6
"""About what a link between two TPUs adds to any message, seconds (jax-ml.github.io/scaling-book, on ICI latency)."""
TPU_DOCS, SXM = "cloud.google.com/tpu/docs/", "NVIDIA's data sheet, SXM"


@dataclass(frozen=True)
class Chip:
    """One accelerator chip, as JAX counts devices."""

    name: str
    device_kinds: tuple[str, ...]
    """JAX's names for it in `device.device_kind`."""
    bfloat16_flops: int
    """Peak rate of dense bfloat16 matrix products, operations per second."""
    memory_bytes: int
    memory_bandwidth: int
    """Bytes per second."""
    network_bandwidth: int
    """Bytes per second that one chip can send over all of its links together."""
    hop_seconds: float
    """Time that a link adds to any message; 0 where no figure was found."""
    host_cores: int
    """Virtual processors of a cloud's host, two of which are often one core, for each chip; 0 likewise."""
    source: str


# Hosts: ct5lp-hightpu-8t has 224 processors, ct5p-hightpu-4t 208, ct6e-standard-4t 180, as has the host of a v6e slice
# of 8 chips; p4d.24xlarge has 96 for 8 GPUs, p5.48xlarge and p5en.48xlarge have 192.
CHIPS = (
    Chip("v4", ("TPU v4",), 275 * TERA, 32 * GIB, 1_228 * GB, 300 * GB, HOP, 0, TPU_DOCS + "v4"),
    Chip("v5e", ("TPU v5 lite",), 197 * TERA, 16 * GIB, 819 * GB, 200 * GB, HOP, 28, TPU_DOCS + "v5e"),
    Chip("v5p", ("TPU v5", "TPU v5p"), 459 * TERA, 95 * GIB, 2_765 * GB, 600 * GB, HOP, 52, TPU_DOCS + "v5p"),
    Chip("v6e", ("TPU v6 lite",), 918 * TERA, 32 * GIB, 1_638 * GB, 400 * GB, HOP, 45, TPU_DOCS + "v6e"),
    Chip("a100", ("NVIDIA A100-SXM4-40GB",), 312 * TERA, 40 * GIB, 1_555 * GB, 300 * GB, 0.0, 12, SXM),
    Chip("h100", ("NVIDIA H100 80GB HBM3",), 989 * TERA, 80 * GIB, 3_352 * GB, 450 * GB, 0.0, 24, SXM),
    Chip("h200", ("NVIDIA H200",), 989 * TERA, 141 * GB, 4_800 * GB, 450 * GB, 0.0, 24, SXM),
)


def chip_of(device_kind: str) -> Chip | None:
    """Return the chip of a `device.device_kind`; None if it is not in the table, such as a CPU."""
    return next((chip for chip in CHIPS if device_kind in chip.device_kinds), None)
