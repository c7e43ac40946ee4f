"""Images that a network accepts, and those that it refuses with the remedy."""

import inspect
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax import Conv, ResNet

WRONG = {  # expression of the images: kind of the error, what its message names, and the remedy among it
    "zeros((2, 8, 6, 3), uint8)": ("TypeError", ["uint8", "/ 255"], None),
    "jnp.zeros((2, 8, 6, 3), jnp.int32)": ("TypeError", ["int32", "/ 255"], None),
    "zeros((2, 8, 6, 3), bool)": ("TypeError", ["bool", "floating-point"], None),
    "[[[[0.0] * 3] * 6] * 8] * 2": ("TypeError", ["list"], "jax.numpy.asarray(images)"),
    "zeros((2, 3, 8, 6))": ("ValueError", ["(2, 3, 8, 6)"], "images.transpose(0, 2, 3, 1)"),
    "zeros((3, 8, 6))": ("ValueError", ["(3, 8, 6)"], "images.transpose(1, 2, 0)[None]"),
    "zeros((8, 6, 3))": ("ValueError", ["(8, 6, 3)"], "images[None]"),
    "zeros((2, 8, 6, 1))": ("ValueError", ["(2, 8, 6, 1)"], "jax.numpy.repeat(images, 3, axis=3)"),
    "zeros((2, 8, 6, 4))": ("ValueError", ["(2, 8, 6, 4)"], "images[..., :3]"),
    "zeros((2, 8, 6))": ("ValueError", ["(2, 8, 6)"], None),
}
TRY = """
import json, sys
import jax, jax.numpy as jnp
from flax import nnx
from numpy import uint8, zeros
from resnet_jax import ResNet

class ResNet4(ResNet):
    stage_sizes = (1, 1, 1, 1)

model = ResNet4(5, stem="cifar", width=2)
for expression, (_, _, remedy) in json.loads(sys.argv[1]).items():
    images, found = eval(expression), []
    for call in (model, model.features, lambda images: jax.eval_shape(model, images)):
        try:
            call(images)
        except Exception as error:
            found.append([type(error).__name__, str(error)])
    logits = jax.eval_shape(model, eval(remedy)) if remedy else None
    print(json.dumps([expression, found, logits and list(logits.shape)]))
"""


class ResNet4(ResNet):
    """A ResNet with one block in each stage."""

    stage_sizes = (1, 1, 1, 1)


@pytest.fixture(scope="module")
def model() -> ResNet:
    return ResNet4(5, stem="cifar", width=2)


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple]:
    """Errors, and shape of the logits after the remedy, from a process without the type checks of the tests."""
    command = [sys.executable, "-c", TRY, json.dumps(WRONG)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {expression: rest for expression, *rest in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("images", WRONG)
def test_images_that_would_be_misread_are_an_error_with_what_was_got_and_expected(answers, images):
    kind, facts, remedy = WRONG[images]
    errors, _ = answers[images]
    assert len(errors) == 3 and {each for each, _ in errors} == {kind}, "called, in features, and traced"
    for _, message in errors:
        assert "[batch, height, width, 3]" in message and all(fact in message for fact in facts), message
        assert remedy is None or remedy.removesuffix("(images)") in message


@pytest.mark.parametrize("images", [images for images, (*_, remedy) in WRONG.items() if remedy])
def test_the_remedy_of_the_error_works(answers, images):
    _, logits = answers[images]
    assert logits is not None and logits[1:] == [5]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpys_floating_point_images_are_accepted(model, kind):
    images = draw(2, 8, 6, 3).astype(kind)
    np.testing.assert_array_equal(model(images), model(jnp.asarray(images, jnp.float32)))


def test_batches_of_batches_are_mapped(model):
    images = jnp.asarray(draw(2, 3, 8, 6, 3), jnp.float32)
    np.testing.assert_allclose(jax.vmap(model)(images)[1], model(images[1]), rtol=1e-4, atol=1e-5)


def test_shapes_alone_are_refused_unless_they_are_traced():
    conv, shape = Conv(3, 2, 3, rngs=nnx.Rngs(0)), jax.ShapeDtypeStruct((2, 8, 6, 3), jnp.float32)
    with pytest.raises(TypeError, match=r"jax\.eval_shape"):
        inspect.unwrap(Conv.__call__)(conv, shape)  # without the type checks of the tests
    assert jax.eval_shape(conv, shape).shape == (2, 8, 6, 2)
