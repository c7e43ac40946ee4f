"""A forward pass on a CPU: what depends on the weights alone is computed once, the rest a few images at a time."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, PyTree

from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.hardware.packing import find_blocks, pack
from resnet_jax.models.cpu import onednn
from resnet_jax.models.cpu.fusion import fused
from resnet_jax.models.cpu.int8 import Integers
from resnet_jax.models.cpu.quantization import Plan

CHUNK = 16 * 224 * 224
"""Pixels computed at a time: with more, the maps leave the processor's caches and take new pages of memory."""


class Inference:
    """A function `forward(weights, images)`, computed with `fused` and compiled for each number of images.

    Batch normalization becomes part of the kernels once for a set of weights, not in each call. The results for an
    image must not depend on the other images. Weights that are not finite are left to XLA, as oneDNN's ReLU loses NaN.

    Args:
        forward: a pure function; each of its results has one entry for each image.
        compiler_options: for XLA.
        packed: also keep the kernels in the layout in which they are multiplied. Finding it takes about as long as
            compiling, and spares each call the copy: at one image nearly half of its time.
        plan: of integers, with which it is computed; see `resnet_jax.hardware.calibration`.
    """

    def __init__(
        self,
        forward: Callable[[PyTree, Array], PyTree],
        compiler_options: dict[str, Any] | None = None,
        *,
        packed: bool = False,
        plan: Plan | None = None,
    ):
        self._forward = fused(forward, None if plan is None else partial(Integers, plan=plan))
        self._by_xla = jax.jit(forward, compiler_options=compiler_options)
        self._options, self._packed = compiler_options, packed
        self._programs: dict[tuple[int, ...], tuple[Any, Callable, Callable]] = {}  # by the shape of the images
        self._weights: list[Array] = []
        self._prepared: dict[Any, list[Array] | None] = {}

    def __call__(self, weights: PyTree, images: Array) -> PyTree:
        if images.shape not in self._programs:
            self._programs[images.shape] = self._compiled(weights, images)
        leaves = jax.tree.leaves(weights)
        if list(map(id, leaves)) != list(map(id, self._weights)):
            self._weights, self._prepared = leaves, {}
        operations, prepare, rest = self._programs[images.shape]
        if operations not in self._prepared:  # they are the same for nearly every number of images
            self._prepared[operations] = _finite(prepare(weights))
        prepared = self._prepared[operations]
        return self._by_xla(weights, images) if prepared is None else rest(prepared, images)

    def _compiled(self, weights: PyTree, images: Array) -> tuple[Any, Callable, Callable]:
        count = images.shape[0]
        most = min(count, max(1, CHUNK // math.prod(images.shape[1:3])))
        size = next((size for size in range(most, most // 2, -1) if count % size == 0), count)
        parts = divided(self._forward, weights, images[:size], packed=self._packed)

        def by_chunks(prepared: list[Array], images: Array) -> PyTree:
            if count == size:
                return parts.rest(prepared, images)
            chunks = images.reshape(count // size, size, *images.shape[1:])
            results = lax.map(lambda chunk: parts.rest(prepared, chunk), chunks)
            return jax.tree.map(lambda result: result.reshape(count, *result.shape[2:]), results)

        prepare, rest = (jax.jit(part, compiler_options=self._options) for part in (parts.prepare, by_chunks))
        program = compile_lowered(rest.lower(jax.eval_shape(parts.prepare, weights), images))
        return parts.operations, prepare, program


def _finite(prepared: list[Array]) -> list[Array] | None:
    numbers = [values for values in prepared if jnp.issubdtype(values.dtype, jnp.floating)]
    return prepared if all(bool(jnp.isfinite(values).all()) for values in numbers) else None


class Parts(NamedTuple):
    """A function of weights and images in two parts: `rest(prepare(weights), images)` are its results."""

    prepare: Callable[[PyTree], list[Array]]
    rest: Callable[[list[Array], Array], PyTree]
    operations: tuple[tuple[str, str], ...]
    """Those of `prepare`, by name and type of the result."""


def divided(
    function: Callable[[PyTree, Array], PyTree], weights: PyTree, images: Array, *, packed: bool = False
) -> Parts:
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

    others, blocks = _with_packed(others, between) if packed else (others, {})

    def prepare(weights: PyTree) -> list[Array]:
        known = constants | dict(zip(leaves, jax.tree.leaves(weights), strict=True))
        values = map(jnp.asarray, _evaluate(first, known, between))  # constants are arrays of NumPy
        return [
            pack(value, blocks[var]) if var in blocks else value for var, value in zip(between, values, strict=True)
        ]

    def rest(prepared: list[Array], images: Array) -> PyTree:
        values = dict(zip(between, prepared, strict=True)) | {last: images}
        return jax.tree.unflatten(jax.tree.structure(shape), _evaluate(others, values, program.jaxpr.outvars))

    operations = tuple((eqn.primitive.name, str(eqn.outvars[0].aval)) for eqn in first)
    return Parts(prepare, rest, operations + tuple(("pack", str(blocks.get(var))) for var in between))


def _with_packed(eqns: Sequence[core.JaxprEqn], between: Sequence[Any]) -> tuple[list[core.JaxprEqn], dict[Any, int]]:
    """Return operations whose convolutions take packed kernels, and the block of each kernel that is to be packed."""
    uses = Counter(_variables([atom for eqn in eqns for atom in eqn.invars]))
    places = [
        place
        for place, eqn in enumerate(eqns)
        if eqn.primitive is onednn.convolution_p and eqn.invars[1] in between and uses[eqn.invars[1]] == 1
    ]
    shapes = {place: _described(eqns[place]) for place in places}
    kinds = dict.fromkeys(shapes.values())
    examples = {kind: eqns[place] for place, kind in shapes.items()}
    found = find_blocks([([atom.aval for atom in examples[kind].invars], examples[kind].params) for kind in kinds])
    block_of = dict(zip(kinds, found, strict=True))
    changed, blocks = list(eqns), {}
    for place, kind in shapes.items():
        if (block := block_of[kind]) is not None:
            changed[place] = eqns[place].replace(params=eqns[place].params | {"block": block})
            blocks[eqns[place].invars[1]] = block
    return changed, blocks


def _described(eqn: core.JaxprEqn) -> str:
    return f"{[str(atom.aval) for atom in eqn.invars]} {sorted(eqn.params.items(), key=str)}"


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
