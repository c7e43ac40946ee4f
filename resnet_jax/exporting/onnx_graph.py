"""A network as an ONNX graph, with torchvision's tensors, whose layouts are ONNX's too."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from resnet_jax.models.layers.convolution import Conv
from resnet_jax.models.layers.norm import BatchNorm
from resnet_jax.models.layers.residual import BottleneckBlock, ResNetBlock
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights.torchvision import COUNTER, to_torchvision

if TYPE_CHECKING:
    import onnx

OPSET = 18  # of December 2022: has all operations that are needed, and most runtimes support it
Normalization = tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]


def onnx_graph(
    model: ResNet,
    *,
    image_size: int,
    batch_size: int | None,
    layout: Literal["NHWC", "NCHW"],
    normalization: Normalization | None,
) -> "onnx.ModelProto":
    """Write the graph from `images` to `logits`, in float32.

    Args:
        model: the network; its own type of computation does not matter.
        image_size: height and width of the images, pixels.
        batch_size: number of images in a call; None for any number.
        layout: axes of the images.
        normalization: mean and standard deviation in units of 0 to 1, for uint8 images; None for normalized float32.

    Source: the operators' definitions, https://onnx.ai/onnx/operators
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    tensors = {key: it for key, it in to_torchvision(model).items() if not key.endswith(COUNTER)}
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, *inputs: str, output: str = "", **attributes) -> str:
        output = output or f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(name: str, value: np.ndarray) -> str:
        tensors[name] = value.astype(np.float32).reshape(1, -1, 1, 1)
        return name

    def conv(maps: str, layer: Conv, path: str) -> str:
        size = layer.kernel.shape[0]
        return add(
            *("Conv", maps, f"{path}.weight"),
            group=layer.groups,
            kernel_shape=[size] * 2,
            strides=[layer.stride] * 2,
            pads=[size // 2] * 4,
        )

    def norm(maps: str, layer: BatchNorm, path: str) -> str:
        parameters = (f"{path}.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
        return add("BatchNormalization", maps, *parameters, epsilon=layer.epsilon)

    def apply(block: ResNetBlock | BottleneckBlock, maps: str, path: str) -> str:
        residual, last = maps, 3 if isinstance(block, BottleneckBlock) else 2
        for number in range(1, last + 1):
            residual = conv(residual, getattr(block, f"conv{number}"), f"{path}.conv{number}")
            residual = norm(residual, getattr(block, f"bn{number}"), f"{path}.bn{number}")
            residual = residual if number == last else add("Relu", residual)
        if block.downsample is not None:
            projection, bn = block.downsample
            maps = norm(conv(maps, projection, f"{path}.downsample.0"), bn, f"{path}.downsample.1")
        return add("Relu", add("Add", maps, residual))

    maps = "images" if layout == "NCHW" else add("Transpose", "images", perm=[0, 3, 1, 2])
    if normalization is not None:
        mean, std = normalization
        maps = add("Mul", add("Cast", maps, to=TensorProto.FLOAT), constant("factor", 1 / (255 * std)))
        maps = add("Add", maps, constant("offset", -mean / std))
    maps = add("Relu", norm(conv(maps, model.conv1, "conv1"), model.bn1, "bn1"))
    if model.stem == "imagenet":
        maps = add("MaxPool", maps, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage in range(1, 5):
        for index, block in enumerate(getattr(model, f"layer{stage}")):
            maps = apply(block, maps, f"layer{stage}.{index}")
    pooled = add("Flatten", add("GlobalAveragePool", maps))
    add("Gemm", pooled, "fc.weight", "fc.bias", output="logits", transB=1)

    batch = batch_size or "batch"
    shape = [batch, image_size, image_size, 3] if layout == "NHWC" else [batch, 3, image_size, image_size]
    kind = TensorProto.FLOAT if normalization is None else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        "ResNet",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(tensors["fc.bias"])])],
        [numpy_helper.from_array(np.ascontiguousarray(tensor), key) for key, tensor in tensors.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    whole = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="resnet_jax")
    checker.check_model(whole, full_check=True)
    return whole
