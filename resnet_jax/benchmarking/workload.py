"""The work of a training run on random images, piece by piece, for `resnet_jax.benchmarking.measure`."""

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.benchmarking.measure import Work
from resnet_jax.config import AugmentConfig, Config, ModelConfig, TrainConfig
from resnet_jax.data.source import Dataset, Split
from resnet_jax.hardware.compilation import LaidOut, compile_lowered, compiler_options
from resnet_jax.hardware.flops import Cost, cost_of
from resnet_jax.hardware.sharding import make_mesh, place, replicated, sharded
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.setup import assemble, make_model
from resnet_jax.training.step import Batch

IMAGES = 50_000  # as in CIFAR-10
DATA_BYTES = 2**29  # fewer images where they are large
AUGMENTATION = AugmentConfig(crop_padding=4, flip="random")


class Workload:
    """Forward pass, training step, input and whole training of a configuration, compiled when first asked for.

    Args:
        network: architecture, stem, width and type of the computation.
        num_classes: of the random labels.
        batch_size: images in a step, over all devices.
        image_size: pixels.

    Raises:
        UsageError: the batch does not divide evenly among the devices, or the network has no such width.
    """

    def __init__(self, network: ModelConfig, *, num_classes: int, batch_size: int, image_size: int):
        self.config = config = Config(model=network, train=TrainConfig(batch_size=batch_size), augment=AUGMENTATION)
        self.mesh = make_mesh(batch_size)
        steps = max(min(IMAGES, DATA_BYTES // (3 * image_size**2)) // batch_size, 1)
        count = (steps if steps < 50 else steps // 50 * 50) * batch_size  # whole dispatches only: one program
        self.run, self._state = assemble(config, random_dataset(count, image_size, num_classes, batch_size), self.mesh)
        model = nnx.eval_shape(partial(make_model, config, num_classes))
        self.dtype = jnp.dtype(model.conv1.dtype).name
        self._graphdef = nnx.graphdef(model)
        self._indices = place(self.run.order(0)[0], sharded(self.mesh))
        self.compile_seconds: dict[str, float] = {}

    @property
    def parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self._state.params))

    @cached_property
    def cost(self) -> Cost:
        """Of the forward pass of one image."""
        image = jax.ShapeDtypeStruct((1, *self.run.dataset.train.images.shape[1:]), jnp.float32)
        return cost_of(self._forward, self._state.params, self._state.batch_stats, image)

    @cached_property
    def forward(self) -> Work:
        """Normalised images to logits, in evaluation mode."""
        weights = jax.tree.map(jnp.copy, (self._state.params, self._state.batch_stats))
        forward = self._compiled("forward", jax.jit(self._forward), *weights, self._batch.images)
        return repeated(lambda: forward(*weights, self._batch.images))

    @cached_property
    def train(self) -> Work:
        """The training step on one batch that lies on the devices."""
        state, _ = jax.tree.map(jnp.copy, self._state), self.train_program

        def step() -> TrainMetrics:
            nonlocal state
            state, metrics = self._train_step(state, self._batch)
            return metrics

        return repeated(step)

    @cached_property
    def train_program(self) -> Any:
        """The compiled training step."""
        start = time.perf_counter()
        program = self._train_step.compiled(self._state, self._batch)
        self.compile_seconds["train"] = time.perf_counter() - start
        return program

    @cached_property
    def _train_step(self) -> LaidOut:
        return LaidOut(self.run.program.train_step)

    @cached_property
    def input(self) -> Work:
        """A batch taken from the data set, augmented and normalised, alone."""
        return repeated(lambda: self._make_batch(*self._input_arguments))

    @cached_property
    def end_to_end(self) -> "EndToEnd":
        """Whole training, as the loop does it."""
        return EndToEnd(self)

    def _forward(self, params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(self._graphdef, params, batch_stats, copy=True)(images, train=False)

    @cached_property
    def _make_batch(self) -> Callable:
        function = jax.jit(self.run.program.make_batch, out_shardings=sharded(self.mesh))
        return self._compiled("input", function, *self._input_arguments)

    @property
    def _input_arguments(self) -> tuple:
        return self.run.train_data, self._indices, self._state.key, self._state.step

    @cached_property
    def _batch(self) -> Batch:
        return self._make_batch(*self._input_arguments)

    def _compiled(self, name: str, function: Any, *args: Any) -> Any:
        options = compiler_options(jax.default_backend())
        start = time.perf_counter()
        compiled = compile_lowered(function.lower(*args), options)
        self.compile_seconds[name] = time.perf_counter() - start
        return compiled


class EndToEnd:
    """Draws the order, places it, dispatches and fetches the metrics, as `resnet_jax.training.loop` does."""

    def __init__(self, workload: Workload):
        self._run = workload.run
        self._state = jax.tree.map(jnp.copy, workload._state)
        self._metrics = jax.device_put(TrainMetrics.zero(), replicated(workload.mesh))
        self._step = 0
        self.waiting_shares: list[float] = []
        """Share of the time spent waiting for the order of the images, of each call."""

    def __call__(self, steps: int) -> int:
        first, start, waited = self._step, time.perf_counter(), 0.0
        while self._step < first + steps:
            epoch, offset = divmod(self._step, self._run.program.steps_per_epoch)
            asked = time.perf_counter()
            order = self._run.order(epoch)[offset : offset + self._run.program.steps_per_dispatch]
            waited += time.perf_counter() - asked
            self._state, self._metrics = self._run.dispatch(self._state, self._metrics, order, epoch)
            jax.device_get(self._metrics)
            self._step += len(order)
        self.waiting_shares.append(waited / (time.perf_counter() - start))
        return self._step - first


def repeated(step: Callable[[], Any]) -> Work:
    """Calls `step` again and again, and waits for the last result, on a CPU for each."""
    each = jax.default_backend() == "cpu"  # queued steps of several CPU devices can deadlock in a collective

    def work(steps: int) -> int:
        for _ in range(steps):
            result = step()
            if each:
                jax.block_until_ready(result)
        jax.block_until_ready(result)
        return steps

    return work


def random_dataset(count: int, image_size: int, num_classes: int, test_count: int) -> Dataset:
    """A data set of random images and labels, of which the first `test_count` are the test split."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    labels = rng.integers(0, num_classes, count, np.int32)
    names = tuple(map(str, range(num_classes)))
    return Dataset("random images", names, Split(images, labels), Split(images[:test_count], labels[:test_count]))
