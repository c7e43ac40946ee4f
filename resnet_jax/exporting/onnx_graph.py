"""A network as an ONNX graph: the operations that JAX traces in evaluation, and weights with torchvision's names."""

from collections.abc import Callable
from typing import TYPE_CHECKING

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


def onnx_graph(
    model: nnx.Module,
    images: jax.ShapeDtypeStruct,
    prepare: Callable[[jax.Array], jax.Array] = lambda images: images,
) -> "onnx.ModelProto":
    """Write the graph from `images` to `logits`, in float32.

    Args:
        model: the network; its own type of computation does not matter.
        images: shape and type of the input; its number of images may be a symbol, for any number.
        prepare: function from the input to the network's images, which becomes a part of the graph.

    Raises:
        UserError: an operation of the network can't be written here.

    Source: the operators' definitions, https://onnx.ai/onnx/operators
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, logits, num_classes = _traced(model, prepare, images)
    needed = _needed(nodes, logits)
    used = {name for node in needed for name in node.inputs}
    batch = images.shape[0] if isinstance(images.shape[0], int) else str(images.shape[0])
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(images.dtype))
    graph = helper.make_graph(
        [helper.make_node(node.kind, node.inputs, [node.output], node.output, **node.attributes) for node in needed],
        "network",
        [helper.make_tensor_value_info("images", kind, [batch, *images.shape[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, num_classes])],
        [numpy_helper.from_array(array, name) for name, array in nodes.initializers.items() if name in used],
    )
    graph.node[-1].output[0] = "logits"
    opset = helper.make_opsetid("", OPSET)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="resnet_jax")
    checker.check_model(whole, full_check=True)
    return whole


def _traced(
    model: nnx.Module, prepare: Callable[[jax.Array], jax.Array], images: jax.ShapeDtypeStruct
) -> tuple[Nodes, str, int]:
    """Trace the network and write its operations; return also the name and the number of the logits."""
    graphdef, state, *rest = nnx.split(model, (nnx.Param, nnx.BatchStat), ...)
    variables = {key_of(path): (path, variable) for path, variable in nnx.to_flat_state(state)}

    def logits(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        traced = [(path, variable.replace(weights[key])) for key, (path, variable) in variables.items()]
        return nnx.merge(graphdef, nnx.from_flat_state(traced), *rest)(prepare(images), train=False)

    weights = {key: variable[...] for key, (_, variable) in variables.items()}
    shape = (BATCH, *images.shape[1:])
    with jax.default_matmul_precision("highest"):  # of products of weights, which are computed while writing
        jaxpr = jax.make_jaxpr(logits)(weights, jax.ShapeDtypeStruct(shape, images.dtype))
    inputs = [Constant(in_float32(weights[key]), key) for key in sorted(weights)]  # JAX's order
    nodes = Nodes(to_torchvision(model))
    (output,) = write(jaxpr, [*inputs, Tensor("images", tuple(range(len(shape))), shape)], nodes)
    return nodes, nodes.arranged(nodes.tensor(output), (0, 1)), jaxpr.out_avals[0].shape[1]


def _needed(nodes: Nodes, output: str) -> list[Node]:
    """Return the nodes that `output` depends on, in the order of computation."""
    names, needed = {output}, []
    for node in reversed(nodes.by_output.values()):
        if node.output in names:
            names.update(node.inputs)
            needed.append(node)
    return needed[::-1]
