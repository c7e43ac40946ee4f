"""A forward pass on a CPU: what depends on the weights alone is computed once, the rest a few images at a time."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, PyTree

from resnet_jax.errors import UserError
from resnet_jax.hardware.compilation import compile_lowered
from resnet_jax.hardware.packing import find_blocks, pack
from resnet_jax.models.cpu import onednn
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
        packed: also keep the kernels in the layout in which they are multiplied. Finding it takes about as long as
            compiling, and spares each call the copy: at one image nearly half of its time.

    Raises:
        UserError: in a call, if the weights give kernels that are not finite: the library's ReLU makes 0 of NaN.
    """

    def __init__(
        self,
        forward: Callable[[PyTree, Array], PyTree],
        compiler_options: dict[str, Any] | None = None,
        *,
        packed: bool = False,
    ):
        self._forward = fused(forward)
        self._options, self._packed = compiler_options, packed
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
        values = _evaluate(first, constants | dict(zip(leaves, jax.tree.leaves(weights), strict=True)), between)
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
