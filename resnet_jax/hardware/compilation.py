"""How the training step is compiled: with the layouts and libraries that suit the device."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.stages import Compiled, Lowered
from jaxtyping import PyTree

from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation_cache import compiling_anew
from resnet_jax.hardware.sharding import settle
from resnet_jax.models.cpu.by_onednn import training_by_onednn
from resnet_jax.models.cpu.processor import has_onednn

# On the CPU XLA hands work to YNNPACK. Its dot products and reductions are faster than XLA's own, its convolutions are
# not: the gradient of a 3x3 kernel, 64 images of 32x32 and 64 channels, takes 129 ms with it and 40 without.
# The pass `cse_barrier_expander` removes optimization barriers before operations are fused, and models/cpu/ prevents
# fusions with them; without this pass the whole step takes five sixths of the time. See docs/cpu.md.
CPU_OPTIONS: dict[str, bool | str] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}

COMPILING = ThreadPoolExecutor(1, "compiling")
KEPT: dict[Any, Compiled] = {}
"""The latest programs that call oneDNN, which jaxlib can't write to files. All seeds of a comparison run the same."""
MOST_KEPT = 8


class CompiledStep:
    """A function `step(state, *rest) -> (state, result)`, compiled for the devices on which the state is.

    The arrays of the state get the memory layouts that the compiler chooses. A kernel is `[height, width, in, out]` to
    its reader, but a GPU convolves with `[out, height, width, in]`: compiled for an H100, ResNet-18's step has no
    transpose of weights instead of 100; for a v5e, no additional copy.

    Args:
        step: a pure function; the arrays of its first argument are donated.
    """

    def __init__(self, step: Callable):
        self._step = step
        self._programs: dict[Any, Compiled] = {}
        self._ready: tuple[Compiled, jax.Array] | None = (
            None  # a program, and the first leaf of a state laid out for it
        )

    def program(self, state: PyTree, *rest: PyTree) -> Compiled:
        """Return the program for arguments of these shapes, which takes and returns the leaves of the state."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(rest))
        if shapes not in self._programs:
            (platform,) = {device.platform for device in jax.tree.leaves(state)[0].sharding.device_set}
            lowered = lower_step(self._step, state, *rest)
            self._programs[shapes] = compile_lowered(lowered, compiler_options(platform))
        return self._programs[shapes]

    def __call__(self, state: PyTree, *rest: PyTree) -> tuple[PyTree, Any]:
        if _jit_is_disabled():  # operation by operation, for a debugger
            return settle(self._step(state, *rest))
        program = self.program(state, *rest)
        leaves, structure = jax.tree.flatten(state)
        if self._ready is None or self._ready[0] is not program or self._ready[1] is not leaves[0]:
            leaves = [_moved(leaf, to) for leaf, to in zip(leaves, program.input_formats[0][0], strict=True)]
        new, result = settle(program(leaves, *jax.tree.leaves(rest)))
        self._ready = program, new[0]
        return jax.tree.unflatten(structure, new), result


def lower_step(step: Callable, state: PyTree, *rest: PyTree) -> Lowered:
    """Lower `step`, from leaves to leaves of the state, so that the compiler chooses their layouts.

    The arguments have shardings, and may be abstract.
    """
    leaves, structure = jax.tree.flatten(state)
    others, outer = jax.tree.flatten(rest)

    def on_leaves(leaves: list, *others: Any) -> tuple[list, Any]:
        new, result = step(jax.tree.unflatten(structure, leaves), *jax.tree.unflatten(outer, others))
        return jax.tree.leaves(new), result

    formats = [leaf.sharding if _is_key(leaf) else Format(Layout.AUTO, leaf.sharding) for leaf in leaves]
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]  # without their current layouts
    jitted = jax.jit(
        on_leaves, donate_argnums=0, in_shardings=(formats, *[None] * len(others)), out_shardings=(formats, None)
    )
    with training_by_onednn(_is_one_cpu(leaves) and has_onednn()):
        return jitted.lower(shapes, *others)


def compile_lowered(lowered: Lowered, options: dict[str, bool | str] | None = None) -> Compiled:
    """Compile in another thread, so that Ctrl-C ends the wait at once instead of when the program is compiled.

    A program is compiled once: it is kept in the folder of JAX's compilation cache or, if it calls oneDNN, in memory.

    Raises:
        UserError: JAX_DISABLE_JIT is set, with which JAX runs no compiled program.
    """
    if _jit_is_disabled():
        raise UserError("JAX_DISABLE_JIT is set, and nothing is compiled then: unset it for this command")
    text = lowered.as_text() if has_onednn() else ""
    if "__onednn$" not in text:
        return COMPILING.submit(lowered.compile, compiler_options=options).result()
    key = text, lowered.in_tree, lowered.out_tree, repr(options)
    if key not in KEPT or not _can_keep():
        with compiling_anew():
            KEPT[key] = COMPILING.submit(lowered.compile, compiler_options=options).result()
        if len(KEPT) > MOST_KEPT:
            del KEPT[next(iter(KEPT))]
    return KEPT[key]


@cache
def compiler_options(platform: str) -> dict[str, bool | str]:
    """Return the compiler's options for a kind of device: on the CPU CPU_OPTIONS, if this XLA has them."""
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS


def _can_keep() -> bool:
    """Tell whether programs are kept, and have their constants in their text."""
    config: Any = jax.config
    return config.jax_enable_compilation_cache and not config.jax_use_simplified_jaxpr_constants


def _is_one_cpu(leaves: Sequence[Any]) -> bool:
    return {(device.platform, device.id) for leaf in leaves for device in leaf.sharding.device_set} == {("cpu", 0)}


def _jit_is_disabled() -> bool:
    return jax.config.jax_disable_jit  # type: ignore[attr-defined]  # set by JAX when it is imported


def _moved(leaf: Any, to: Format) -> jax.Array:
    return leaf if _is_key(leaf) or leaf.format == to else jax.device_put(leaf, to)


def _is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Tell whether a leaf is a random key, which has no layout."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
