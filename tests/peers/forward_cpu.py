"""ResNet-18's forward pass on a CPU, in turns: ours as in `resnet-jax predict`, PyTorch's and onnxruntime's.

    python tests/peers/forward_cpu.py --batch-sizes 1 8 32

onnxruntime runs the networks that `resnet-jax export` writes, in float32 and int8. The weights are random, and so are
the images that calibrate integers. It takes the extra `parity`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import onnxruntime
import torch
import torchvision
from flax import nnx
from PIL import Image

from resnet_jax.classifier.calibration import quantize
from resnet_jax.classifier.classifier import Classifier, load_classifier
from resnet_jax.classifier.precision import computes_on_cpu
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.models.cpu.quantization import Plan


def ours(classifier: Classifier, images: np.ndarray, precision: Literal["float32", "bfloat16"] | Plan) -> Callable:
    predictor = Predictor(classifier, batch_size=len(images), often=True, precision=precision)
    assert computes_on_cpu(predictor.mesh.size) and (isinstance(precision, Plan) or predictor.precision == precision)
    return partial(predictor, images)


def without_onednn(classifier: Classifier, images: np.ndarray) -> Callable:
    graphdef, weights = nnx.split(classifier.model)
    normalize = classifier.preprocessing.normalize
    forward = jax.jit(lambda weights, images: nnx.merge(graphdef, weights)(normalize(images)))
    return lambda: np.asarray(forward(weights, images))


def by_torch(model: torch.nn.Module, images: np.ndarray, *, narrow: bool, compiled: bool) -> Callable:
    network = torch.compile(model) if compiled else model
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)

    def run() -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            return network(inputs.float() / 255).softmax(1).float().numpy()

    return run


def by_onnxruntime(path: Path, images: np.ndarray) -> Callable:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take the others' cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda: session.run(None, {name: images})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = torchvision.models.resnet18().eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder) / "r18.pth")
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        calibrating = [(f"{number}.png", pictures / f"{number}.png") for number in range(64)]
        for seed, (_, path) in enumerate(calibrating):
            Image.fromarray(np.random.default_rng(seed).integers(0, 256, (224, 224, 3), np.uint8)).save(path)
        for name, options in {"float32": [], "int8": ["--int8", str(pictures)]}.items():
            export = ["export", f"{folder}/r18.pth", "--format", "onnx", "--with-preprocessing"]
            command = [sys.executable, "-m", "resnet_jax", *export, "--out", f"{folder}/{name}.onnx", *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        classifier = load_classifier(f"{folder}/r18.pth")
        plan, _ = quantize(classifier, calibrating)
        model = model.to(memory_format=torch.channels_last)
        for size in arguments.batch_sizes:
            images = np.random.default_rng(0).integers(0, 256, (size, 224, 224, 3), np.uint8)
            works = {
                "XLA float32": without_onednn(classifier, images),
                "ours float32": ours(classifier, images, "float32"),
                "ours bfloat16": ours(classifier, images, "bfloat16"),
                "ours int8": ours(classifier, images, plan),
                "PyTorch float32": by_torch(model, images, narrow=False, compiled=False),
                "PyTorch float32 compiled": by_torch(model, images, narrow=False, compiled=True),
                "PyTorch bfloat16": by_torch(model, images, narrow=True, compiled=False),
                "PyTorch bfloat16 compiled": by_torch(model, images, narrow=True, compiled=True),
                "onnxruntime float32": by_onnxruntime(Path(folder) / "float32.onnx", images),
                "onnxruntime int8": by_onnxruntime(Path(folder) / "int8.onnx", images),
            }
            seconds: dict[str, list[float]] = {name: [] for name in works}
            for work in works.values():
                work()
            for _ in range(arguments.repeats):
                for name, work in works.items():
                    work()  # its threads and caches, after those of the others
                    start = time.perf_counter()
                    work()
                    seconds[name].append(time.perf_counter() - start)
            for name, taken in seconds.items():
                best, median = size / min(taken), size / float(np.median(taken))
                print(f"batch {size}, {name}: {best:.1f} images/s at best, median {median:.1f}", flush=True)


if __name__ == "__main__":
    main()
