"""A network as an ONNX graph: the operations that JAX traces in evaluation, and weights with torchvision's names."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from resnet_jax.exporting.onnx_nodes import Node, Nodes
from resnet_jax.exporting.onnx_trace import write
from resnet_jax.exporting.onnx_values import BATCH, Constant, Tensor, in_float32
from resnet_jax.weights.torchvision import key_of, to_torchvision

if TYPE_CHECKING:
    import onnx

OPSET = 18  # of December 2022: has all operations that are needed, and most runtimes support it


Compute = Callable[[Any, jax.Array], tuple[jax.Array, ...]]
"""From a network and the input of its export to the outputs."""


def onnx_graph(
    model: nnx.Module,
    images: jax.ShapeDtypeStruct,
    compute: Compute | None = None,
    outputs: Sequence[str] = ("logits",),
) -> "onnx.ModelProto":
    """Write the graph from `images` to `outputs`, in float32.

    Args:
        model: the network; its own type of computation does not matter.
        images: shape and type of the input; its number of images may be a symbol, for any number.
        compute: function that the graph computes; by default, from normalized images to the logits.
        outputs: names of its results.

    Raises:
        UserError: an operation of the network can't be written here.

    Source: the operators' definitions, https://onnx.ai/onnx/operators
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    batch = images.shape[0] if isinstance(images.shape[0], int) else str(images.shape[0])
    nodes, written = _traced(model, compute or _logits, images)
    names = dict(zip(written, outputs, strict=True))
    needed = _needed(nodes, names)
    used = {name for node in needed for name in node.inputs}

    def named(name: str) -> str:
        return names.get(name, name)

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(images.dtype))
    graph = helper.make_graph(
        [
            helper.make_node(
                node.kind, list(map(named, node.inputs)), [named(node.output)], node.output, **node.attributes
            )
            for node in needed
        ],
        "network",
        [helper.make_tensor_value_info("images", kind, [batch, *images.shape[1:]])],
        [
            helper.make_tensor_value_info(names[name], TensorProto.FLOAT, [batch, *shape[1:]])
            for name, shape in written.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in nodes.initializers.items() if name in used],
    )
    opset = helper.make_opsetid("", OPSET)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="resnet_jax")
    checker.check_model(whole, full_check=True)
    return whole


def _logits(model: Any, images: jax.Array) -> tuple[jax.Array, ...]:
    return (model(images, train=False),)


def _traced(
    model: nnx.Module, compute: Compute, images: jax.ShapeDtypeStruct
) -> tuple[Nodes, dict[str, tuple[int, ...]]]:
    """Trace the network and write its operations; return also the names and shapes of the outputs."""
    graphdef, state, *rest = nnx.split(model, (nnx.Param, nnx.BatchStat), ...)
    variables = {key_of(path): (path, variable) for path, variable in nnx.to_flat_state(state)}

    def outputs(weights: dict[str, jax.Array], images: jax.Array) -> tuple[jax.Array, ...]:
        traced = [(path, variable.replace(weights[key])) for key, (path, variable) in variables.items()]
        return compute(nnx.merge(graphdef, nnx.from_flat_state(traced), *rest), images)

    weights = {key: variable[...] for key, (_, variable) in variables.items()}
    shape = (BATCH, *images.shape[1:])
    with jax.default_matmul_precision("highest"):  # of products of weights, which are computed while writing
        jaxpr = jax.make_jaxpr(outputs)(weights, jax.ShapeDtypeStruct(shape, images.dtype))
    inputs = [Constant(in_float32(weights[key]), key) for key in sorted(weights)]  # JAX's order
    nodes = Nodes(to_torchvision(model))
    written = write(jaxpr, [*inputs, Tensor("images", tuple(range(len(shape))), shape)], nodes)
    shapes = [aval.shape for aval in jaxpr.out_avals]
    return nodes, {
        nodes.arranged(nodes.tensor(output), range(len(shape))): shape
        for output, shape in zip(written, shapes, strict=True)
    }


def _needed(nodes: Nodes, outputs: Iterable[str]) -> list[Node]:
    """Return the nodes that `outputs` depend on, in the order of computation."""
    names, needed = set(outputs), []
    for node in reversed(nodes.by_output.values()):
        if node.output in names:
            names.update(node.inputs)
            needed.append(node)
    return needed[::-1]
