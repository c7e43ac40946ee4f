"""The layers of the package: imports go only downward."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
LADDER = (  # the lowest first; the modules of one rung may not import each other, but those of one package may
    "errors checked_text",
    "json_files entry",
    "models",
    "config hardware",
    "recipe weights data",
    "runs page",
    "classifier",
    "training",
    "benchmarking diagnosing exporting planning serving",
    "comparing",
    "commands",
    "cli",
    "__main__",
)
ASSEMBLERS = (  # those that see the configuration; all others take plain values
    *(
        "recipe",
        "runs.opening",
        "runs.logbook",
        "runs.reading",
        "classifier",
        "planning",
        "benchmarking",
        "commands",
        "comparing",
    ),
    *(
        "training.setup",
        "training.program",
        "training.model",
        "training.loop",
        "training.images",
        "training.augmentations",
    ),
)
FRONT_DOORS = "cli entry checked_text config errors recipe models.registry commands hardware.compilation_cache"
"""What `--help` imports."""
MODULES = {
    ".".join(path.relative_to(REPO / "resnet_jax").with_suffix("").parts): path
    for path in (REPO / "resnet_jax").rglob("*.py")
    if path.name != "__init__.py"
}


def imports(path: Path) -> set[str]:
    """Return what a file imports anywhere: modules, and names from modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[str]:
    """Return the package's own modules among `names`, without the leading `resnet_jax.`."""
    return {name.removeprefix("resnet_jax.") for name in names if name.startswith("resnet_jax.")}


def within(name: str, packages: str | tuple[str, ...]) -> bool:
    packages = tuple(packages.split()) if isinstance(packages, str) else packages
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def rung(name: str) -> int:
    (number,) = {number for number, packages in enumerate(LADDER) if within(name, packages)}
    return number


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_its_own_package_and_lower_rungs(name):
    package = name.split(".")[0]
    others = {each for each in own(imports(MODULES[name])) if each.split(".")[0] != package}
    assert [each for each in sorted(others) if rung(each) >= rung(name)] == []


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not within(name, ASSEMBLERS)))
def test_a_leaf_takes_plain_values_and_no_configuration(name):
    assert not any(within(each, "config") for each in own(imports(MODULES[name])))


def test_train_py_imports_only_the_command_and_what_is_around_it():
    allowed = "entry commands.train"
    assert all(within(name, allowed) for name in own(imports(REPO / "train.py")))


def loaded(statement: str, *packages: str) -> set[str]:
    """Return those of `packages` that a new process has loaded after `statement`."""
    code = f"import sys; {statement}; print(*set({packages}) & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    return set(result.stdout.split())


def test_the_command_line_answers_without_jax_and_plotting():
    names = [name for name in sorted(MODULES) if within(name, FRONT_DOORS)]
    statement = "import " + ", ".join(f"resnet_jax.{name}" for name in names)
    heavy = ("jax", "flax", "matplotlib", "orbax", "tensorflow_datasets", "sklearn", "torch", "tensorflow")
    stores = ("fsspec", "s3fs", "gcsfs", "aiohttp", "botocore")
    assert loaded(statement, *heavy, *stores) == set()


def test_the_package_loads_a_name_when_it_is_used():
    assert loaded("import resnet_jax", "jax", "flax", "numpy") == set()


def test_the_training_loop_imports_neither_tensorflow_nor_torch():
    assert loaded("import resnet_jax.training.loop", "tensorflow", "torch") == set()
