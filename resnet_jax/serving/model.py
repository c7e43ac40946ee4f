"""A trained network that serves concurrent requests."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.files import best
from resnet_jax.classifier.gradcam import draw_overlay
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.errors import UserError
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.serving.answers import ImageResult, Prediction
from resnet_jax.serving.batcher import SIZES, Batcher
from resnet_jax.serving.images import decode_upload, encode_pictures
from resnet_jax.serving.metrics import Metrics
from resnet_jax.serving.uploads import Upload


class Threads(NamedTuple):
    """Where everything runs that would hold up the server."""

    device: Executor
    """One thread, for all models: they would only compete for the devices."""
    decoding: Executor


class Output(NamedTuple):
    """What the network says of one image."""

    probabilities: Float[np.ndarray, " classes"]
    heat: Float[np.ndarray, "height width"]
    step: int | None


class ServedModel:
    """A classifier whose requests share batches.

    Grad-CAM is always computed: the gradient stops at the last maps, and takes next to no time. So requests with and
    without it share their batches.

    Args:
        name: under which clients know it.
        source: from which it was read.
        classifier: the network.
        places: images that may be decoded or wait at the same time.
        precision: type of the computation.
        threads: for computation.
        metrics: where its figures go.
    """

    def __init__(
        self,
        name: str,
        source: str,
        classifier: Classifier,
        places: int,
        precision: Precision,
        threads: Threads,
        metrics: Metrics,
    ):
        self.name, self.source, self.classifier = name, source, classifier
        self.compiled = asyncio.Event()
        self._predictor = Predictor(classifier, batch_size=SIZES[-1], explain=True, often=True, precision=precision)
        self._threads, self._metrics = threads, metrics
        self.batcher = Batcher(self._classify, places=places, thread=threads.device)
        metrics.waiting.labels(name).set_function(lambda: self.batcher.taken)
        self._set_step(classifier)

    async def run(self) -> None:
        """Compile, and then answer requests until this is cancelled."""
        await asyncio.get_running_loop().run_in_executor(self._threads.device, self._compile)
        self.compiled.set()
        await self.batcher.run()

    async def predict(self, uploads: Sequence[Upload], top_k: int, explain: bool) -> list[ImageResult]:
        """Classify images; one that can't be read has an error in its result.

        Raises:
            QueueFull: there is no place for them.
        """
        loop, decoding = asyncio.get_running_loop(), self._threads.decoding
        with self.batcher.expecting(len(uploads)):
            preprocessing = self.classifier.preprocessing
            decoded = await asyncio.gather(
                *(loop.run_in_executor(decoding, decode_upload, upload, preprocessing) for upload in uploads)
            )
        readable = [image for image in decoded if not isinstance(image, str)]
        outputs = await self.batcher(readable)
        pictures: list[tuple[str | None, str | None]] = [(None, None)] * len(readable)
        if explain:
            pictures = await asyncio.gather(
                *(
                    loop.run_in_executor(decoding, encode_pictures, image, output.heat)
                    for image, output in zip(readable, outputs, strict=True)
                )
            )
        found = zip(outputs, pictures, strict=True)
        return [
            ImageResult(upload.name, error=image)
            if isinstance(image, str)
            else self._result(upload.name, *next(found), top_k)
            for upload, image in zip(uploads, decoded, strict=True)
        ]

    async def replace(self, classifier: Classifier) -> None:
        """Take the weights of another checkpoint of the same run, between two batches.

        Raises:
            UserError: it is another network.
        """
        ours = self.classifier
        if (classifier.network, classifier.class_names, classifier.preprocessing) != (
            *(ours.network, ours.class_names, ours.preprocessing),
        ):
            raise UserError(f"{self.source} holds another network now: start the server again")

        def swap() -> None:
            nnx.update(ours.model, nnx.state(classifier.model))
            self._set_step(classifier)

        await asyncio.get_running_loop().run_in_executor(self._threads.device, swap)

    def _set_step(self, classifier: Classifier) -> None:
        self.step = classifier.info.get("step")
        if self.step is not None:
            self._metrics.step.labels(self.name).set(self.step)

    def _compile(self) -> None:
        side = self.classifier.preprocessing.image_size
        for size in SIZES:
            prediction = self._predictor(np.zeros((size, side, side, 3), np.uint8))
        assert prediction.heat is not None
        draw_overlay(np.zeros((side, side, 3), np.uint8), prediction.heat[0])  # imports what it needs

    def _classify(self, images: UInt8[np.ndarray, "batch size size 3"]) -> list[Output]:
        self._metrics.batches.labels(self.name).observe(len(images))
        prediction = self._predictor(images)
        assert prediction.heat is not None
        return [Output(*each, self.step) for each in zip(prediction.probabilities, prediction.heat, strict=True)]

    def _result(self, name: str, output: Output, pictures: tuple[str | None, str | None], top_k: int) -> ImageResult:
        names = self.classifier.class_names
        guesses = best(output.probabilities, names, min(top_k, len(names)))
        predictions = [Prediction(guess.name, guess.number, guess.probability) for guess in guesses]
        return ImageResult(name, predictions, output.step, *pictures)
