"""The notebooks, executed as a user would, with small networks on a CPU."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OPTIONS = ["--model.width", "8", "--train.epochs", "6", "--evaluate.every-epochs", "2"]
SETTINGS = {
    "CHECKOUT": str(ROOT),
    "WORKDIR": "runs/first",
    "OPTIONS": OPTIONS,
    "FINETUNE": [
        *("--model.pretrained", "runs/first", "--model.stem", "cifar", "--model.width", "8"),
        *("--data.image-size", "32", "--augment.crop-padding", "4", "--train.epochs", "15"),
    ],
}


def notebook(name: str, **settings) -> nbformat.NotebookNode:
    """Return a notebook with `settings` inserted after its own."""
    loaded = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    if not settings:
        return loaded
    [at] = [i for i, cell in enumerate(loaded.cells) if "parameters" in cell.metadata.get("tags", ())]
    source = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    loaded.cells.insert(at + 1, nbformat.v4.new_code_cell(source))
    return loaded


def execute(loaded: nbformat.NotebookNode, folder: Path, **environ: str) -> None:
    scripts = Path(sys.executable).parent  # as in an activated environment
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | environ
    client = NotebookClient(loaded, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)


def printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in cell.get("outputs", ()) if output.output_type == "stream")


def pictures(cell: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", ()) for output in cell.outputs)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Execute it where a training was killed; return the folder, and a function that finds a cell by a line of code."""
    folder = tmp_path_factory.mktemp("notebook")
    checkpoints = folder / "runs" / "first" / "checkpoints"
    config = ["--config", ROOT / "configs" / "digits.py", "--workdir", "runs/first"]
    with subprocess.Popen([sys.executable, ROOT / "train.py", *config, *OPTIONS], cwd=folder) as process:
        while process.poll() is None and not any(path.name.isdigit() for path in checkpoints.glob("*")):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    loaded = notebook("resnet18_colab", **SETTINGS)
    execute(loaded, folder)

    def cell(line: str) -> nbformat.NotebookNode:
        [found] = [cell for cell in loaded.cells if cell.cell_type == "code" and line in cell.source]
        return found

    return folder, cell


@pytest.mark.slow
def test_training_continues_after_a_kill_and_shows_its_curves(executed):
    _, cell = executed
    training = cell("def train(")
    assert "resuming from step" in printed(training)
    assert pictures(training) == 1


@pytest.mark.slow
def test_the_notebook_shows_mistakes_and_heat_maps(executed):
    _, cell = executed
    assert (pictures(cell("mistakes.png")), pictures(cell('"samples"'))) == (2, 6)


@pytest.mark.slow
def test_the_notebook_evaluates_every_test_image(executed):
    _, cell = executed
    assert "360 images of digits, test" in printed(cell('"evaluate"'))


@pytest.mark.slow
def test_the_notebook_writes_weights_and_exports_whose_logits_agree(executed):
    folder, cell = executed
    assert len(re.findall("largest difference", printed(cell('"convert"')))) == 2
    assert {"resnet18.pth", "resnet18.stablehlo", "resnet18.onnx"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_fine_tuning_tells_two_photographs_apart(executed):
    _, cell = executed
    shares = re.findall(r"test accuracy +│ +([\d.]+)%", printed(cell('train("finetune"')))
    assert float(shares[0]) >= 90
    assert pictures(cell('train("finetune"')) > 2


@pytest.mark.slow
def test_the_network_is_used_in_the_notebook_itself(executed):
    _, cell = executed
    assert re.search(r"\[CpuDevice.*\] \['\d'", printed(cell("load_classifier(WORKDIR)")))


@pytest.mark.slow
def test_a_silent_fallback_to_the_cpu_ends_the_notebook_with_a_remedy(tmp_path):
    loaded = notebook("resnet18_colab", CHECKOUT=str(ROOT))
    with pytest.raises(CellExecutionError):
        execute(loaded, tmp_path, TPU_NAME="local", JAX_PLATFORMS="")
    [doctor] = [cell for cell in loaded.cells if 'sh("resnet-jax", "doctor")' in cell.source]
    assert ".[tpu]" in printed(doctor)


@pytest.mark.slow  # compiles a network
def test_the_module_learns_digits_in_the_notebook_that_imports_it(tmp_path):
    loaded = notebook("import_the_module")
    execute(loaded, tmp_path)
    (accuracy,) = re.findall(r"test accuracy: ([\d.]+)%", "".join(map(printed, loaded.cells)))
    assert float(accuracy) > 80


@pytest.mark.slow  # trains two networks
def test_the_notebook_that_compares_makes_its_own_photographs_and_shows_the_page(tmp_path):
    loaded = notebook(
        "compare_on_my_photos", SIZE=32, EPOCHS=1, NETWORKS="resnet18,plain18", OPTIONS=["--model.width", "8"]
    )
    execute(loaded, tmp_path)
    [page] = [cell for cell in loaded.cells if "srcdoc" in cell.source]
    assert "plain18" in page.outputs[0].data["text/html"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
