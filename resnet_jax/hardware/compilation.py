"""How the training step is compiled: with the layouts and libraries that suit the device, and kept between runs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.stages import Compiled, Lowered
from jaxtyping import PyTree

from resnet_jax.data.reading.cache import cache_dir

# On the CPU XLA hands work to YNNPACK. Its dot products and reductions are the faster ones, its convolutions are not:
# the gradient of a 3x3 kernel, 64 images of 32x32 and 64 channels, takes 129 ms with it and 40 without.
# And it drops optimization barriers before it fuses operations, which the ones in models/convolution_cpu.py are there
# to prevent; without the pass that drops them they hold, and the whole step takes five sixths of the time.
CPU_OPTIONS: dict[str, bool | str] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}

COMPILING = ThreadPoolExecutor(1, "compiling")


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
        step: a function that may consume its first argument.
    """

    def __init__(self, step: Callable):
        self._step = step
        self._programs: dict[Any, Compiled] = {}

    def compiled(self, state: PyTree, *rest: PyTree) -> Compiled:
        """The program for arguments of these shapes, on the devices of `state`; it takes and returns leaves."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(rest))
        if shapes not in self._programs:
            (platform,) = {device.platform for device in jax.tree.leaves(state)[0].sharding.device_set}
            lowered = lower_step(self._step, state, *rest)
            self._programs[shapes] = compile_lowered(lowered, compiler_options(platform))
        return self._programs[shapes]

    def __call__(self, state: PyTree, *rest: PyTree) -> tuple[PyTree, Any]:
        program = self.compiled(state, *rest)
        leaves, structure = jax.tree.flatten(state)
        leaves = [_moved(leaf, to) for leaf, to in zip(leaves, program.input_formats[0][0], strict=True)]
        new, result = program(leaves, *jax.tree.leaves(rest))
        return jax.tree.unflatten(structure, new), result


def lower_step(step: Callable, state: PyTree, *rest: PyTree) -> Lowered:
    """Lowers `step`, from leaves to leaves of the state, so that compiling chooses their layouts.

    The arguments have shardings, and may be abstract.
    """
    leaves, structure = jax.tree.flatten(state)
    others, outer = jax.tree.flatten(rest)

    def on_leaves(leaves: list, *others: Any) -> tuple[list, Any]:
        new, result = step(jax.tree.unflatten(structure, leaves), *jax.tree.unflatten(outer, others))
        return jax.tree.leaves(new), result

    formats = [leaf.sharding if _is_key(leaf) else Format(Layout.AUTO, leaf.sharding) for leaf in leaves]
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]  # without the layout of today
    jitted = jax.jit(
        on_leaves, donate_argnums=0, in_shardings=(formats, *[None] * len(others)), out_shardings=(formats, None)
    )
    return jitted.lower(shapes, *others)


def compile_lowered(lowered: Lowered, options: dict[str, bool | str] | None = None) -> Compiled:
    """Compiles in another thread: Ctrl-C ends this one's waiting at once, and a compilation only after its minutes."""
    return COMPILING.submit(lowered.compile, compiler_options=options).result()


@cache
def compiler_options(platform: str) -> dict[str, bool | str]:
    """What programs for a kind of device are best compiled with: on the CPU CPU_OPTIONS, if this XLA has them."""
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=CPU_OPTIONS)
    except jax.errors.JaxRuntimeError:
        return {}
    return CPU_OPTIONS


def _moved(leaf: Any, to: Format) -> jax.Array:
    return leaf if _is_key(leaf) or leaf.format == to else jax.device_put(leaf, to)


def _is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Whether it is a key of randomness, which takes no layout."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
