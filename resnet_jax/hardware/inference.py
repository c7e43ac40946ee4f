"""A forward pass on a CPU: what depends on the weights alone is computed once, the rest a few images at a time."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, PyTree

from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.models.cpu.fusion import fused

CHUNK = 16
"""Images computed at a time: with more, the maps leave the processor's caches and take new pages of memory."""


class Inference:
    """A function `forward(weights, images)`, computed with `fused` and compiled for each number of images.

    Batch normalization becomes part of the kernels once for a set of weights, not in each call. The results for an
    image must not depend on the other images.

    Args:
        forward: a pure function; each of its results has one entry for each image.
        compiler_options: for XLA.

    Raises:
        UserError: in a call, if the weights give kernels that are not finite: the library's ReLU makes 0 of NaN.
    """

    def __init__(self, forward: Callable[[PyTree, Array], PyTree], compiler_options: dict[str, Any] | None = None):
        self._forward = fused(forward)
        self._options = compiler_options
        self._programs: dict[tuple[int, ...], tuple[Any, Callable, Callable]] = {}  # by the shape of the images
        self._weights: PyTree = None
        self._prepared: dict[Any, list[Array]] = {}

    def __call__(self, weights: PyTree, images: Array) -> PyTree:
        if images.shape not in self._programs:
            self._programs[images.shape] = self._compiled(weights, images)
        if weights is not self._weights:
            self._weights, self._prepared = weights, {}
        operations, prepare, rest = self._programs[images.shape]
        if operations not in self._prepared:  # they are the same for nearly every number of images
            self._prepared[operations] = _checked(prepare(weights))
        return rest(self._prepared[operations], images)

    def _compiled(self, weights: PyTree, images: Array) -> tuple[Any, Callable, Callable]:
        count = images.shape[0]
        size = CHUNK if count % CHUNK == 0 else count
        parts = divided(self._forward, weights, images[:size])

        def by_chunks(prepared: list[Array], images: Array) -> PyTree:
            if count == size:
                return parts.rest(prepared, images)
            chunks = images.reshape(count // size, size, *images.shape[1:])
            results = lax.map(lambda chunk: parts.rest(prepared, chunk), chunks)
            return jax.tree.map(lambda result: result.reshape(count, *result.shape[2:]), results)

        prepare, rest = (jax.jit(part, compiler_options=self._options) for part in (parts.prepare, by_chunks))
        program = compile_lowered(rest.lower(jax.eval_shape(parts.prepare, weights), images))
        return parts.operations, prepare, program


def _checked(prepared: list[Array]) -> list[Array]:
    if not all(bool(jnp.isfinite(values).all()) for values in prepared if jnp.issubdtype(values.dtype, jnp.floating)):
        raise UserError(
            "the network's kernels have NaN or infinity after its normalization became part of them, so that it can't "
            "classify: a variance may be negative, or the weights damaged; give others"
        )
    return prepared


class Parts(NamedTuple):
    """A function of weights and images in two parts: `rest(prepare(weights), images)` are its results."""

    prepare: Callable[[PyTree], list[Array]]
    rest: Callable[[list[Array], Array], PyTree]
    operations: tuple[tuple[str, str], ...]
    """Those of `prepare`, by name and type of the result."""


def divided(function: Callable[[PyTree, Array], PyTree], weights: PyTree, images: Array) -> Parts:
    """Divide `function(weights, images)` into the operations that depend on the weights alone, and the rest."""
    program, shape = jax.make_jaxpr(function, return_shape=True)(weights, images)
    *leaves, last = program.jaxpr.invars
    constants = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    known, first, others = {*constants, *leaves}, [], []
    for eqn in program.jaxpr.eqns:
        inputs = _variables(eqn.invars)
        if known.issuperset(inputs):
            first.append(eqn)
            known.update(eqn.outvars)
        if not inputs or not known.issuperset(inputs):  # one without inputs is repeated, not kept in memory
            others.append(eqn)
    made = {var for eqn in others for var in eqn.outvars}
    needed = _variables([atom for eqn in others for atom in eqn.invars] + program.jaxpr.outvars)
    between = [var for var in dict.fromkeys(needed) if var in known and var not in made]

    def prepare(weights: PyTree) -> list[Array]:
        return _evaluate(first, constants | dict(zip(leaves, jax.tree.leaves(weights), strict=True)), between)

    def rest(prepared: list[Array], images: Array) -> PyTree:
        values = dict(zip(between, prepared, strict=True)) | {last: images}
        return jax.tree.unflatten(jax.tree.structure(shape), _evaluate(others, values, program.jaxpr.outvars))

    return Parts(prepare, rest, tuple((eqn.primitive.name, str(eqn.outvars[0].aval)) for eqn in first))


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def _evaluate(eqns: Sequence[core.JaxprEqn], values: dict[Any, Any], outputs: Sequence[Any]) -> list[Any]:
    """Apply operations in turn, and return the values of some variables."""

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in eqns:
        results = eqn.primitive.bind(*map(read, eqn.invars), **eqn.primitive.get_bind_params(eqn.params))
        values |= zip(eqn.outvars, results if eqn.primitive.multiple_results else [results], strict=True)
    return list(map(read, outputs))
