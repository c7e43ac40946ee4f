"""How the training step is compiled: with the layouts and libraries that suit the device, and kept between runs."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.stages import Compiled, Lowered
from jaxtyping import PyTree

from resnet_jax.data.cache import cache_dir

# On the CPU XLA hands work to YNNPACK. Its dot products and reductions are the faster ones, its convolutions are not:
# the gradient of a 3x3 kernel, 64 images of 32x32 and 64 channels, takes 129 ms with it and 40 without.
CPU_OPTIONS: dict[str, bool | str] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
}


def keep_compiled() -> None:
    """Has JAX keep what it compiles in this project's cache, unless its own settings name a folder already.

    A second run of the same configuration then starts in half the time.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


class LaidOut:
    """`step(state, *rest) -> (state, result)`, with the state's arrays in memory as suits the step best.

    A kernel is `[height, width, in, out]` to its reader, but a GPU convolves with `[out, height, width, in]`. A state
    that stays in the compiler's order is not transposed at every step: compiled for an H100, ResNet-18's step has no
    transpose of weights instead of 100; for a v5e, not a copy more.

    Args:
        step: a function that donates its first argument.
    """

    def __init__(self, step: Callable):
        self._step = step
        self._compiled: dict[Any, Compiled] = {}
        self._last: Compiled | None = None

    def __call__(self, state: PyTree, *rest: PyTree) -> tuple[PyTree, Any]:
        shapes = jax.tree.leaves(jax.tree.map(lambda leaf: leaf.shape, rest))
        compiled = self._compiled.get(tuple(shapes))
        if compiled is None:
            compiled = self._compiled[tuple(shapes)] = compile_step(self._step, state, *rest)
        if compiled is not self._last:
            state, self._last = _laid_out(state, compiled), compiled
        return compiled(state, *rest)


def compile_step(step: Callable, state: PyTree, *rest: PyTree) -> Compiled:
    """Compiles `step` with layouts of its choice for the state; the arguments have shardings, and may be abstract."""

    def chosen(leaf: jax.Array | jax.ShapeDtypeStruct) -> Format | jax.sharding.Sharding | None:
        return leaf.sharding if _is_key(leaf) else Format(Layout.AUTO, leaf.sharding)

    formats = jax.tree.map(chosen, state)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)  # without today's layout
    jitted = jax.jit(step, donate_argnums=0, in_shardings=(formats, *[None] * len(rest)), out_shardings=(formats, None))
    return _compile(jitted.lower(shapes, *rest), jax.tree.leaves(state)[0].sharding)


def _compile(lowered: Lowered, sharding: jax.sharding.Sharding) -> Compiled:
    if all(device.platform == "cpu" for device in sharding.device_set):  # type: ignore[attr-defined]
        try:
            return lowered.compile(compiler_options=CPU_OPTIONS)
        except jax.errors.JaxRuntimeError as error:
            if "option" not in str(error):  # another release of XLA, without this one
                raise
    return lowered.compile()


def _laid_out(state: PyTree, compiled: Compiled) -> PyTree:
    def move(leaf: jax.Array, wanted: Format) -> jax.Array:
        return leaf if _is_key(leaf) else jax.device_put(leaf, wanted)

    return jax.tree.map(move, state, compiled.input_formats[0][0])


def _is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Whether it is a key of randomness, which takes no layout."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
