"""The layers of the package: imports go only downward."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
LEVELS = (  # the lowest first
    *("config errors recipe", "data models weights", "training", "pretrained"),
    *("training.setup", "training.loop training.summary", "tools", "cli __main__"),
)
ASSEMBLERS = (
    "recipe",
    "pretrained",
    "training.setup",
    "training.loop",
    "training.logbook",
    "tools",
    "cli",
)  # those that see the configuration
MODULES = {
    ".".join(path.relative_to(REPO / "resnet_jax").with_suffix("").parts): path
    for path in (REPO / "resnet_jax").rglob("*.py")
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """The package's modules that a file imports anywhere, without the leading `resnet_jax.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("resnet_jax.") for name in found if name.startswith("resnet_jax.")}


def within(name: str, packages: str | tuple[str, ...]) -> bool:
    packages = tuple(packages.split()) if isinstance(packages, str) else packages
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def level(name: str) -> int:
    return max(number for number, packages in enumerate(LEVELS) if within(name, packages))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_nothing_above_it(name):
    above = [imported for imported in imports(MODULES[name]) if level(imported) > level(name)]
    assert above == []


@pytest.mark.parametrize("name", sorted(name for name in MODULES if within(name, "data models weights")))
def test_data_models_and_weights_do_not_know_each_other(name):
    own = name.split(".")[0]
    assert [other for other in imports(MODULES[name]) if not within(other, f"{own} errors")] == []


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not within(name, ASSEMBLERS)))
def test_a_leaf_takes_plain_values_and_no_configuration(name):
    assert not any(within(imported, "config") for imported in imports(MODULES[name]))


def test_train_py_needs_only_the_loop_and_the_configuration():
    assert all(
        within(name, "config errors recipe training.compilation training.loop") for name in imports(REPO / "train.py")
    )


def test_the_package_imports_neither_tensorflow_nor_torch():
    code = "import sys, resnet_jax; print({'tensorflow', 'torch', 'tensorflow_datasets'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert result.stdout.strip() == "set()"


def test_the_training_loop_imports_neither_tensorflow_nor_torch():
    code = "import sys, resnet_jax.training.loop; print({'tensorflow', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    assert result.stdout.strip() == "set()"
