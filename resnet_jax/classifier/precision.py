"""The type that a network computes in when it classifies."""

from typing import Literal

import jax

from resnet_jax.models.cpu.processor import Precision, has_bfloat16, has_onednn


def computes_on_cpu(devices: int) -> bool:
    """Tell whether a network on this number of devices is computed by `resnet_jax.hardware.inference`."""
    return jax.default_backend() == "cpu" and devices == 1 and has_onednn() and not jax.config.values["jax_disable_jit"]


def chosen(precision: Precision, devices: int) -> Literal["float32", "bfloat16"]:
    """Return the type for "auto": bfloat16 on a CPU whose instructions multiply it, otherwise float32."""
    if precision == "auto":
        return "bfloat16" if computes_on_cpu(devices) and has_bfloat16() else "float32"
    return precision
