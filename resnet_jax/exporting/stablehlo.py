"""StableHLO artifacts of `jax.export`, checked in a process that has only JAX."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.export
import numpy as np

from resnet_jax.errors import UserError
from resnet_jax.exporting.served import Served, compare

PLATFORMS = ("cpu", "cuda", "tpu")
CLEAN_PROCESS = """
import sys
sys.modules["resnet_jax"] = None  # makes its import an error
import numpy, jax.export
artifact, *pairs = sys.argv[1:]
with open(artifact, "rb") as file:
    network = jax.export.deserialize(bytearray(file.read()))
for images, logits in zip(pairs[::2], pairs[1::2]):
    numpy.save(logits, network.call(numpy.load(images)))
"""


def export_stablehlo(served: Served, path: Path) -> str:
    """Write the artifact and a description beside it; return how it compares in a process that has only JAX.

    Source: jax.export, https://docs.jax.dev/en/latest/export/export.html
    """
    artifact = jax.export.export(jax.jit(served.logits), platforms=PLATFORMS)(served.images())
    path.write_bytes(artifact.serialize())
    path.with_name(f"{path.name}.json").write_text(json.dumps(served.description(), indent=2) + "\n")
    print("checking in a process that has only JAX and the file", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return compare(served, lambda batches: _run_in_clean_process(path, batches, Path(folder)))


def _run_in_clean_process(artifact: Path, batches: list[np.ndarray], folder: Path) -> list[np.ndarray]:
    files = [(folder / f"images{number}.npy", folder / f"logits{number}.npy") for number in range(len(batches))]
    for (images, _), batch in zip(files, batches, strict=True):
        np.save(images, batch)
    command = [
        sys.executable,
        "-P",
        "-c",
        CLEAN_PROCESS,
        str(artifact),
        *(str(file) for pair in files for file in pair),
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}  # this process holds the memory of a GPU
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise UserError(f"the artifact does not run in a process that has only JAX: {reason}; reinstall JAX")
    return [np.load(logits) for _, logits in files]
