"""Dynamic batching: the images of concurrent requests go through the network together."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8

SIZES = (1, 4, 16)
"""Images in a batch."""
WAIT = 0.005  # longest time that a batch waits for images that are still being decoded, seconds

Image = UInt8[np.ndarray, "size size 3"]
Images = UInt8[np.ndarray, "batch size size 3"]
Output = TypeVar("Output")


class QueueFull(Exception):
    """There is no place for that many further images."""


class Batcher(Generic[Output]):
    """Joins images into batches of `SIZES`.

    A request first takes places for its images, decodes them, and hands them over. A batch starts when it has the
    largest size, when no further image is being decoded, or after `WAIT`. It has the largest of the sizes that the
    waiting images fill, so that nothing is computed for padding.

    Args:
        classify: maps a stack of images to one output for each.
        places: for images that are being decoded or wait.
        thread: where `classify` runs.
    """

    def __init__(self, classify: Callable[[Images], Sequence[Output]], *, places: int, thread: Executor):
        self._classify, self._places, self._thread = classify, places, thread
        self._expected = 0
        self._waiting: dict[asyncio.Future[Output], Image] = {}
        self._changed = asyncio.Event()

    @property
    def taken(self) -> int:
        """Number of places that are taken."""
        return self._expected + len(self._waiting)

    @contextmanager
    def expecting(self, count: int) -> Iterator[None]:
        """Take places for images that are decoded inside, and are handed over right after it or never.

        Raises:
            QueueFull: there are fewer places.
        """
        if self.taken + count > self._places:
            raise QueueFull
        self._expected += count
        try:
            yield
        finally:
            self._expected -= count
            self._changed.set()

    async def __call__(self, images: Sequence[Image]) -> list[Output]:
        """Return the outputs for some images; if this is cancelled, those that still wait are left out."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._waiting.update(zip(futures, images, strict=True))
        self._changed.set()
        try:
            return await asyncio.gather(*futures)
        finally:
            for future in futures:
                self._waiting.pop(future, None)

    async def run(self) -> None:
        """Classify one batch after the other, until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._fill()
            size = max((size for size in SIZES if size <= len(self._waiting)), default=0)
            batch = {future: self._waiting.pop(future) for future in list(islice(self._waiting, size))}
            if not batch:  # their requests were given up
                continue
            try:
                outputs = await loop.run_in_executor(self._thread, self._classify, np.stack(list(batch.values())))
            except Exception as error:
                for future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for future, output in zip(batch, outputs, strict=True):
                    if not future.done():
                        future.set_result(output)

    async def _fill(self) -> None:
        """Wait for a first image, and then for those that are being decoded."""
        while not self._waiting:
            await self._change()
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT):
                while self._expected and len(self._waiting) < SIZES[-1]:
                    await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
