"""Kernels in the memory layout in which oneDNN multiplies them, so that it need not change theirs in every call."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.models.cpu.onednn import convolution_p

BLOCKS = (64, 32, 48, 16)
"""Output channels that oneDNN keeps together, depending on the processor and the shapes; any other is left to it."""


def pack(kernel: Any, block: int) -> Any:
    """Return a kernel whose bytes are `[out / block, height, width, in, block]`, in pairs of inputs if bfloat16.

    Args:
        kernel: `[height, width, in_channels, out_channels]`, of JAX or NumPy.
        block: of `BLOCKS`, a divisor of the output channels.
    """
    height, width, inputs, outputs = kernel.shape
    pair = 4 // kernel.dtype.itemsize
    apart = kernel.reshape(height, width, inputs // pair, pair, outputs // block, block)
    return apart.transpose(4, 0, 1, 2, 5, 3).reshape(kernel.shape)


def find_blocks(convolutions: Sequence[tuple[Sequence[Any], dict[str, Any]]]) -> list[int | None]:
    """Find the block of each convolution's kernel, by computing it for random numbers with each and without.

    Args:
        convolutions: abstract operands and parameters of `convolution_p`.

    Returns:
        A block whose outputs are the same, bit for bit, or None: the kernel is to stay as it is.
    """

    generator = np.random.default_rng(0)

    def drawn(operand: Any) -> np.ndarray:
        return generator.standard_normal(operand.shape, np.float32).astype(operand.dtype)

    operands = [list(map(drawn, shapes)) for shapes, _ in convolutions]
    trials = [
        (images, kernel if block is None else np.asarray(pack(kernel, block)), extras, params | {"block": block})
        for (images, kernel, *extras), (_, params) in zip(operands, convolutions, strict=True)
        for block in (None, *_possible(kernel, params))
    ]
    options = [params for *_, params in trials]

    def outputs(trials: list[tuple]) -> list[jax.Array]:
        calls = zip(trials, options, strict=True)
        return [convolution_p.bind(images, kernel, *extras, **params) for (images, kernel, extras), params in calls]

    arguments = [tuple(trial[:3]) for trial in trials]
    results = jax.device_get(compile_lowered(jax.jit(outputs).lower(arguments))(arguments))
    found: list[int | None] = []
    for params, result in zip(options, results, strict=True):
        if params["block"] is None:
            expected = result
            found.append(None)
        elif found[-1] is None and np.array_equal(result, expected):
            found[-1] = params["block"]
    return found


def _possible(kernel: Any, params: dict[str, Any]) -> list[int]:
    if params["groups"] > 1 or kernel.shape[2] % 32:
        return []
    return [block for block in BLOCKS if kernel.shape[3] % block == 0]
