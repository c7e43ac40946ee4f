"""The work of a training run on random images, piece by piece, for `resnet_jax.benchmarking.measure`."""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from resnet_jax.benchmarking.measure import Work
from resnet_jax.classifier.precision import computes_on_cpu
from resnet_jax.config import AugmentConfig, Config, ModelConfig, TrainConfig
from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.hardware.compilation import CompiledStep, compile_lowered, compiler_options
from resnet_jax.hardware.flops import Cost, cost_of
from resnet_jax.hardware.inference import Inference
from resnet_jax.hardware.sharding import make_mesh, settle, sharded
from resnet_jax.training.loop import advance, zero_metrics
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.model import make_model
from resnet_jax.training.setup import assemble, resolve
from resnet_jax.training.step import Batch

IMAGES = 50_000  # as in CIFAR-10
DATA_BYTES = 2**29  # with large images, fewer of them
AUGMENTATION = AugmentConfig(crop_padding=4, flip="random")
ENDLESS = 2**31 - 1


class Workload:
    """Forward pass, training step, input and whole training of a configuration, compiled when first used.

    Args:
        network: architecture, stem, width and type of the computation.
        num_classes: number of classes of the random labels.
        batch_size: images in a step, over all devices.
        image_size: height and width in pixels.
        images: number of random training images, at most; at least one batch is made.

    Raises:
        UsageError: the batch does not divide evenly among the devices, or the network does not exist in this width.
    """

    def __init__(
        self, network: ModelConfig, *, num_classes: int, batch_size: int, image_size: int, images: int = IMAGES
    ):
        config = Config(model=network, train=TrainConfig(batch_size=batch_size), augment=AUGMENTATION)
        self.config = resolve(config, jax.default_backend())
        self.mesh = make_mesh(batch_size)
        steps = max(min(images, DATA_BYTES // (3 * image_size**2)) // batch_size, 1)
        count = (steps if steps < 50 else steps // 50 * 50) * batch_size  # whole calls only: one program
        dataset = random_dataset(count, image_size, num_classes, batch_size)
        self.run, self._state = assemble(self.config, dataset, self.mesh)
        self._graphdef = nnx.graphdef(nnx.eval_shape(lambda: make_model(self.config, num_classes, jax.random.key(0))))
        self.compile_seconds: dict[str, float] = {}

    @property
    def parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self._state.params))

    @property
    def weight_bytes(self) -> int:
        """Size of the parameters and running statistics."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves((self._state.params, self._state.batch_stats)))

    @cached_property
    def cost(self) -> Cost:
        """Cost of the forward pass of one image."""
        image = jax.ShapeDtypeStruct((1, *self.run.dataset.train.image_shape), jnp.float32)
        return cost_of(self._forward, self._state.params, self._state.batch_stats, image)

    @cached_property
    def forward(self) -> Work:
        """Normalized images to logits, in evaluation mode."""
        weights = jax.tree.map(jnp.copy, (self._state.params, self._state.batch_stats))
        forward = self._classifying("forward", weights, self._batch.images, self.mesh.size)
        return repeated(lambda: forward(weights, self._batch.images))

    @cached_property
    def one_image(self) -> Work:
        """Forward pass of a single image, on the first device."""
        one, device = self._batch.images[:1], self.mesh.devices.flat[0]
        *weights, image = jax.device_put((self._state.params, self._state.batch_stats, one), device)
        forward = self._classifying("one_image", weights, image, 1)
        return repeated(lambda: jax.block_until_ready(forward(weights, image)))

    @cached_property
    def train(self) -> Work:
        """Training step on one batch that is on the devices."""
        state, _ = jax.tree.map(jnp.copy, self._state), self.train_program

        def step() -> TrainMetrics:
            nonlocal state
            state, metrics = self._train_step(state, self._batch)
            return metrics

        return repeated(step)

    @cached_property
    def train_program(self) -> Any:
        """Compiled training step."""
        start = time.perf_counter()
        program = self._train_step.program(self._state, self._batch)
        self.compile_seconds["train"] = time.perf_counter() - start
        return program

    @cached_property
    def _train_step(self) -> CompiledStep:
        return CompiledStep(self.run.program.train_step)

    @cached_property
    def input(self) -> Work:
        """Input only: a batch taken from the data set, augmented and normalized."""
        return repeated(lambda: self._make_batch(*self._input_arguments))

    @cached_property
    def end_to_end(self) -> "EndToEnd":
        """Whole training, by the loop that trains."""
        return EndToEnd(self)

    def _forward(self, params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(self._graphdef, params, batch_stats, copy=True)(images, train=False)

    @cached_property
    def _make_batch(self) -> Callable:
        function = jax.jit(self.run.program.make_batch, out_shardings=sharded(self.mesh))
        return self._compiled("input", function, *self._input_arguments)

    @cached_property
    def _input_arguments(self) -> tuple:
        row = jax.device_put(jax.tree.map(lambda leaf: leaf[0], self.run.feed.take(0, 1)), sharded(self.mesh))
        return self.run.data, row, self._state.key, self._state.step

    @cached_property
    def _batch(self) -> Batch:
        return self._make_batch(*self._input_arguments)

    def _classifying(self, name: str, weights: Any, images: jax.Array, devices: int) -> Callable:
        """Compile the forward pass as `predict` does for many images."""

        def forward(weights: Any, images: jax.Array) -> jax.Array:
            params, batch_stats = weights
            return self._forward(params, batch_stats, images)

        if not computes_on_cpu(devices):
            return self._compiled(name, jax.jit(forward), weights, images)
        start = time.perf_counter()
        infer = Inference(forward, compiler_options("cpu"), packed=True)
        jax.block_until_ready(infer(weights, images))
        self.compile_seconds[name] = time.perf_counter() - start
        return infer

    def _compiled(self, name: str, function: Any, *args: Any) -> Any:
        options = compiler_options(jax.default_backend())
        start = time.perf_counter()
        compiled = compile_lowered(function.lower(*args), options)
        self.compile_seconds[name] = time.perf_counter() - start
        return compiled


class EndToEnd:
    """Steps of `resnet_jax.training.loop.advance`, whose metrics are fetched after each call as in a training run."""

    def __init__(self, workload: Workload):
        run, state = workload.run, jax.tree.map(jnp.copy, workload._state)
        self._calls = advance(run, state, zero_metrics(run.mesh), 0, ENDLESS)
        self.waiting_shares: list[float] = []
        """Share of the time spent waiting for the feed, of each call of this object."""

    def __call__(self, steps: int) -> int:
        start, waited, taken = time.perf_counter(), 0.0, 0
        while taken < steps:
            call = next(self._calls)
            jax.device_get(call.metrics)
            waited, taken = waited + call.waited, taken + call.steps
        self.waiting_shares.append(waited / (time.perf_counter() - start))
        return taken


def repeated(step: Callable[[], Any]) -> Work:
    """Return work that calls `step` repeatedly and waits for the last result."""

    def work(steps: int) -> int:
        for _ in range(steps):
            result = settle(step())
        jax.block_until_ready(result)
        return steps

    return work


def random_dataset(count: int, image_size: int, num_classes: int, test_count: int) -> Dataset:
    """Make a data set of random images and labels, of which the first `test_count` are the test split."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    labels = rng.integers(0, num_classes, count, np.int32)
    names = tuple(map(str, range(num_classes)))
    return Dataset("random images", names, Split(images, labels), Split(images[:test_count], labels[:test_count]))
