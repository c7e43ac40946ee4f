"""ONNX files, checked in onnxruntime."""

import json
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.exporting.onnx_graph import Compute, onnx_graph
from resnet_jax.exporting.served import Served, compare


def export_onnx(
    served: Served, path: Path, compute: Compute | None = None, outputs: Sequence[str] = ("logits",)
) -> str:
    """Write the graph with the description in its metadata, as JSON; return how it compares in onnxruntime.

    Args:
        served: the network.
        path: of the file.
        compute: function from the network and the input to the outputs; to the logits by default.
        outputs: names of what it returns, "logits" among them.
    """
    import onnx  # an extra, like onnxruntime
    import onnxruntime

    graph = onnx_graph(
        served.classifier.model,
        served.images(),
        compute or (lambda model, images: (model(served.prepare(images), train=False),)),
        outputs,
    )
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in served.description().items()})
    onnx.save(graph, path)
    print("checking in onnxruntime", flush=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return compare(served, lambda batches: [session.run(["logits"], {"images": it})[0] for it in batches])
