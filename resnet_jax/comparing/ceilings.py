"""Highest training speeds on machines that are not present, by `resnet-jax plan`."""

import json
import subprocess
import sys
from typing import Any

from resnet_jax.errors import UserError


def ceiling_of(arch: str, target: str, image_size: int, classes: int) -> dict[str, Any]:
    """Compute the ceiling of one network in a process of its own, since its compiler needs JAX to stay on the CPU.

    Args:
        arch: name of the network.
        target: machine, as `resnet-jax plan --target` takes it.
        image_size: height and width, pixels.
        classes: number of classes.

    Returns:
        Images per second at most, what limits them and the batch; empty if no batch fits.

    Raises:
        UserError: there is no such machine, or its compiler is not installed.
    """
    options = {"arch": arch, "target": target, "image-size": image_size, "classes": classes}
    command = [sys.executable, "-m", "resnet_jax", "plan", "--json"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise UserError(f"{arch} on {target}: {result.stderr.strip().removeprefix('error: ')}")
    figures = json.loads(result.stdout)
    if "images_per_second_ceiling" not in figures:
        return {}
    return {
        "images_per_second": figures["images_per_second_ceiling"],
        "bound": figures["bound"],
        "batch_size": figures["counted_batch_size"],
    }
