"""ONNX files, checked in onnxruntime."""

import json
from pathlib import Path

from resnet_jax.exporting.onnx_graph import onnx_graph
from resnet_jax.exporting.served import Served, compare


def export_onnx(served: Served, path: Path) -> str:
    """Write the graph with the description in its metadata, as JSON; return how it compares in onnxruntime."""
    import onnx  # an extra, like onnxruntime
    import onnxruntime

    graph = onnx_graph(served.classifier.model, served.images(), served.prepare)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in served.description().items()})
    onnx.save(graph, path)
    print("checking in onnxruntime", flush=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return compare(served, lambda batches: [session.run(["logits"], {"images": it})[0] for it in batches])
