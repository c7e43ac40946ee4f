"""ONNX files with 8-bit weights and activations, by onnxruntime's quantization."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

from resnet_jax.classifier.calibration import BATCH, compared, decoded, halves
from resnet_jax.exporting.onnx_file import export_onnx
from resnet_jax.exporting.served import Served


def export_int8(served: Served, path: Path, images: Sequence[tuple[str, Path]]) -> str:
    """Write the network with int8 weights and activations, and compare it on images that it was not calibrated with.

    Weights have a scale for each output channel; activations have one for each tensor, from the smallest to the largest
    value that calibration shows. The nodes are those of ONNX for float32, between QuantizeLinear and DequantizeLinear,
    which runtimes fuse. The normalization of the images stays in float32.

    Args:
        served: the network with its input.
        path: of the ONNX file.
        images: names and files. Half of them, at most `CALIBRATING`, calibrate, and the others compare.

    Raises:
        UserError: fewer than two images can be read, or the likeliest class changes for too many of them.

    Source: Jacob et al. 2018, section 3 (arXiv:1712.05877), and onnxruntime's static quantization.
    """
    import onnx  # an extra, like onnxruntime
    import onnxruntime
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    calibrating, others = halves(decoded(served.classifier, images))

    class Batches(quantization.CalibrationDataReader):
        def __init__(self):
            self.batches = _batches(served, calibrating)

        def get_next(self):
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        export_onnx(served, Path(folder) / "float32.onnx")
        graph = onnx.load(Path(folder) / "float32.onnx")
        add_pre_process_metadata(graph)  # its constants are folded and its normalizations merged already
        print(f"calibrating with {len(calibrating)} images", flush=True)
        normalizing = [node.name for node in takewhile(lambda node: node.op_type != "Conv", graph.graph.node)]
        quantization.quantize_static(graph, path, Batches(), per_channel=True, nodes_to_exclude=normalizing)
    graph = onnx.load(path)
    description = served.description() | {"quantization": f"int8, calibrated with {len(calibrating)} images"}
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in description.items()})
    onnx.save(graph, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = [session.run(["logits"], {"images": batch})[0] for batch in _batches(served, others)]
    probabilities = np.asarray(jax.nn.softmax(np.concatenate(logits)[: len(others)]))
    return compared(served.classifier, others, probabilities)


def _batches(served: Served, images: UInt8[np.ndarray, "images size size 3"]) -> Iterator[np.ndarray]:
    """Yield the images as the export takes them; the last batch is filled up with the last image if it has to be."""
    size = served.batch_size or BATCH
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        if served.batch_size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)])
        given = batch if served.with_preprocessing else np.asarray(served.classifier.preprocessing.normalize(batch))
        yield given.transpose(0, 3, 1, 2) if served.layout == "NCHW" else given
