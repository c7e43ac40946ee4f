"""The training step with a network that has dropout and no BatchNorm."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from resnet_jax.models.interface import Features, ImageClassifier
from resnet_jax.training.state import TrainState, create_state
from resnet_jax.training.step import Batch, make_train_step


class Perceptron(nnx.Module):
    """A linear classifier with dropout of half the pixels."""

    head: ClassVar[str] = "fc"

    def __init__(self):
        self.fc = nnx.Linear(48, 5, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5)

    def features(self, images, *, train=None, rngs=None):
        pixels = images.reshape(len(images), -1)
        return Features(self.dropout(pixels, deterministic=not train, rngs=rngs), (images,))

    def __call__(self, images, *, train=None, rngs=None):
        return self.fc(self.features(images, train=train, rngs=rngs).pooled)

    def depth(self, path):
        return 0


BATCH = Batch(jax.random.normal(jax.random.key(1), (8, 4, 4, 3)), jax.nn.one_hot(jnp.arange(8) % 5, 5))
OPTIMIZER = optax.sgd(0.0)  # the weights do not change, so that only the dropped pixels change the loss
STEP = jax.jit(make_train_step(nnx.graphdef(Perceptron()), OPTIMIZER))


def start(seed: int = 0) -> TrainState:
    return create_state(Perceptron(), OPTIMIZER, jax.random.key(seed), ema=False)


def test_the_network_has_the_interface():
    assert isinstance(Perceptron(), ImageClassifier)


def test_a_network_without_batchnorm_has_no_running_statistics():
    assert jax.tree.leaves(start().batch_stats) == []


def test_a_network_without_batchnorm_takes_steps():
    optimizer = optax.sgd(0.1)
    state = create_state(Perceptron(), optimizer, jax.random.key(0), ema=False)
    step, losses = jax.jit(make_train_step(nnx.graphdef(Perceptron()), optimizer)), []
    for _ in range(50):
        state, metrics = step(state, BATCH)
        losses.append(float(metrics.loss))
    assert sum(losses[-5:]) < sum(losses[:5]) / 2


def test_two_steps_drop_different_values():
    state, first = STEP(start(), BATCH)
    assert STEP(state, BATCH)[1].loss != first.loss


def test_the_same_step_drops_the_same_values():
    assert STEP(start(), BATCH)[1].loss == STEP(start(), BATCH)[1].loss


def test_another_seed_drops_other_values():
    assert STEP(start(seed=1), BATCH)[1].loss != STEP(start(), BATCH)[1].loss
