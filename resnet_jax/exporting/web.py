"""A folder with a page on which the network runs in the browser, by onnxruntime-web."""

import json
import shutil
from pathlib import Path

import jax

from resnet_jax.classifier.gradcam import OPACITY, explained, heat_colors
from resnet_jax.errors import UsageError, UserError
from resnet_jax.exporting.onnx_file import export_onnx
from resnet_jax.exporting.served import Served
from resnet_jax.models.convnet import ConvNet
from resnet_jax.page.examples import Examples
from resnet_jax.page.page import render_page

PACKAGE = "onnxruntime-web@1.30.0"
"""With which the page is tested."""
RUNTIME = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
"""The script of onnxruntime-web that runs networks on WebGPU and in WebAssembly, and the program that it loads."""


def find_runtime(package: Path) -> list[Path]:
    """Return the files of the npm package onnxruntime-web that the page needs.

    Raises:
        UsageError: they are not there.
    """
    files = [package / "dist" / name for name in RUNTIME]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UsageError(
            f"--runtime: {package} has no dist/{' and no dist/'.join(missing)}, expected the folder of the npm "
            f"package onnxruntime-web: install it here with npm install {PACKAGE}, or give its folder"
        )
    return files


def export_web(served: Served, path: Path, *, name: str, runtime: list[Path], examples: Examples) -> str:
    """Write the folder; return how the ONNX file in it compares in onnxruntime.

    Args:
        served: the network.
        path: of the folder.
        name: of the model on the page.
        runtime: files from `find_runtime`.
        examples: images that the page offers.
    """
    verdict = _write_model(served, path / "model.onnx")
    (path / "model.json").write_text(json.dumps(served.description(), indent=2) + "\n")
    for file in runtime:
        shutil.copyfile(file, path / file.name)
    (path / "examples").mkdir()
    for image, content in examples.images.items():
        (path / "examples" / image).write_bytes(content)
    page = render_page(
        "browser", [name], examples, runtime=runtime[0].name, colors=heat_colors().tolist(), opacity=OPACITY
    )
    (path / "index.html").write_text(page)
    return verdict


def _write_model(served: Served, path: Path) -> str:
    """Write the network with Grad-CAM, if its classifier's gradient can be written to ONNX."""

    def compute(model: ConvNet, images: jax.Array) -> tuple[jax.Array, ...]:
        return explained(model, served.prepare(images))

    try:
        return export_onnx(served, path, compute, ("logits", "heat"))
    except UserError:
        verdict = export_onnx(served, path)
        return f"{verdict}, without Grad-CAM, whose gradient has no form in ONNX for this network"
