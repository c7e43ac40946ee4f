"""JAX's devices and settings, as another process sees them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

PROBE = """
import json, jax
devices = [(d.platform, d.device_kind, (d.memory_stats() or {}).get("bytes_limit")) for d in jax.local_devices()]
print(json.dumps({"devices": devices, "cache": jax.config.jax_compilation_cache_dir}))
"""


def ask_jax(environ: Mapping[str, str], *, timeout: float = 90.0) -> dict[str, Any]:
    """Start JAX in another process, since that may hang or crash, and would reserve a TPU or the memory of a GPU.

    Returns:
        `devices` (platform, kind, bytes of memory or None) and `cache`, the compilation cache's folder or None; or
        `error` alone. `warnings`: what JAX wrote to standard error.
    """
    command = [sys.executable, "-P", "-c", PROBE]
    quiet = {**environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        result = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout:g} s"}
    lines = result.stderr.strip().splitlines()
    if result.returncode != 0:
        setting = f" (JAX_PLATFORMS is {environ['JAX_PLATFORMS']})" if environ.get("JAX_PLATFORMS") else ""
        return {"error": (lines[-1] if lines else f"exit code {result.returncode}") + setting}
    return json.loads(result.stdout.splitlines()[-1]) | {"warnings": lines}
