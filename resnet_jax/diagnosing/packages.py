"""Whether the installed packages have the versions that the project needs, and fit together."""

import importlib.metadata
import platform
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress

from packaging.requirements import Requirement
from packaging.version import Version

from resnet_jax.diagnosing.finding import Finding

FAMILY = (
    *("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda13-pjrt", "jax-cuda12-plugin", "jax-cuda12-pjrt", "libtpu"),
    *("flax", "optax", "orbax-checkpoint"),
)
TENSORFLOW = ("tensorflow", "tensorflow-gpu", "tf-nightly", "tensorflow-cpu")


def requirements(declared: Iterable[str], installed: Mapping[str, str]) -> Finding:
    """Report whether Python and the packages have the versions that the project requires, without its extras."""
    parsed = map(Requirement, declared)
    needed = [it for it in parsed if it.marker is None or it.marker.evaluate({"extra": ""})]
    met = [it for it in needed if it.name in installed and it.specifier.contains(installed[it.name], prereleases=True)]
    lacking = [it for it in needed if it not in met]
    if lacking:
        found = ", ".join(f"{it.name} {installed.get(it.name, 'missing')} (expected {it})" for it in lacking)
        remedies = [f"make an environment with {it}" for it in lacking if it.name == "python"]
        if packages := [f"'{it}'" for it in lacking if it.name != "python"]:
            remedies.append(f"pip install -U {' '.join(packages)}")
        return Finding("problem", "packages", found, ", and ".join(remedies))
    named = ", ".join(f"{name} {installed[name]}" for name in ("python", *FAMILY) if name in installed)
    return Finding("ok", "packages", f"{named}; all {len(needed)} requirements are met")


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return versions by name, of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def jax_family(installed: Mapping[str, str]) -> Finding:
    """Report whether jaxlib and the CUDA plugins have JAX's version; otherwise JAX fails or does not use the GPU."""
    versions = {name: installed[name] for name in FAMILY if name.startswith("jax") and name in installed}
    minors = {tuple(Version(version).release[:2]) for version in versions.values()}
    plugins = {version for name, version in versions.items() if "cuda" in name}
    if len(minors) <= 1 and plugins <= {versions.get("jaxlib")}:
        return Finding("ok", "jax family", "one version")
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Finding("problem", "jax family", f"{found} do not match", f"pip install -U {' '.join(versions)}")


def tensorflow(installed: Mapping[str, str], modules: Container[str], *, gpu: bool) -> Finding:
    """Report whether TensorFlow can take the GPU's memory from JAX."""
    name = next((name for name in TENSORFLOW if name in installed), None)
    if name is None:
        return Finding("ok", "TensorFlow", "not installed and not needed")
    found = f"{name} {installed[name]}, {'imported by this process' if 'tensorflow' in modules else 'not imported'}"
    if not gpu or name == "tensorflow-cpu":
        return Finding("ok", "TensorFlow", found)
    remedy = "it takes all memory of the GPU when it is used; first call tf.config.set_visible_devices([], 'GPU')"
    return Finding("problem" if "tensorflow" in modules else "note", "TensorFlow", found, remedy)
