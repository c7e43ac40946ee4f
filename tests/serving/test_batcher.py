"""The batcher joins what waits, keeps its places, and outlives errors and cancelled requests."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event

import numpy as np
import pytest

from resnet_jax.serving.batcher import SIZES, Batcher, QueueFull


class Double:
    """Doubles the first value of each image when it may, and notes the sizes of its batches."""

    def __init__(self):
        self.sizes, self.started, self.may = [], Event(), Event()
        self.may.set()

    def __call__(self, images):
        self.started.set()
        self.may.wait()
        self.sizes.append(len(images))
        if (images == 255).any():
            raise ValueError("255")
        return [2 * int(image[0, 0, 0]) for image in images]


def images(*values):
    return [np.full((2, 2, 3), value, np.uint8) for value in values]


@pytest.fixture
def double():
    return Double()


@pytest.fixture
def running(double):
    """Return a function that runs a coroutine function of a batcher beside the batcher."""

    def run(work, places=64):
        async def main():
            with ThreadPoolExecutor(1) as thread:
                batcher = Batcher(double, places=places, thread=thread)
                task = asyncio.create_task(batcher.run())
                try:
                    return await work(batcher)
                finally:
                    double.may.set()
                    task.cancel()

        return asyncio.run(main())

    return run


def test_every_image_gets_its_own_output_in_batches_without_padding(running, double):
    async def work(batcher):
        return await asyncio.gather(batcher(images(*range(10))), batcher(images(*range(10, 21))))

    first, second = running(work)
    assert first + second == [2 * value for value in range(21)]
    assert double.sizes == [16, 4, 1] and set(double.sizes) == set(SIZES)


def test_a_batch_waits_for_images_that_are_being_decoded(running, double):
    async def decoded(batcher, value):
        with batcher.expecting(1):
            await asyncio.sleep(0)
        return await batcher(images(value))

    async def work(batcher):
        return await asyncio.gather(*(decoded(batcher, value) for value in range(4)))

    assert running(work) == [[0], [2], [4], [6]] and double.sizes == [4]


def test_a_batch_does_not_wait_forever_for_an_image_that_is_being_decoded(running):
    async def work(batcher):
        with batcher.expecting(1):
            return await batcher(images(3))

    assert running(work) == [6]


def test_images_beyond_the_places_are_refused_until_others_are_done(running, double):
    async def work(batcher):
        double.may.clear()
        running, waiting = (asyncio.create_task(batcher(images(value))) for value in (1, 2))
        while not double.started.is_set():
            await asyncio.sleep(0)
        with pytest.raises(QueueFull), batcher.expecting(2):
            pass
        with batcher.expecting(1):
            assert batcher.taken == 2
        double.may.set()
        outputs = await running, await waiting
        with batcher.expecting(2):
            return outputs

    assert running(work, places=2) == ([2], [4])


def test_an_error_reaches_the_requests_of_its_batch_and_no_others(running):
    async def work(batcher):
        with pytest.raises(ValueError, match="255"):
            await batcher(images(255, 1))
        return await batcher(images(4))

    assert running(work) == [8]


def test_images_of_a_cancelled_request_are_not_computed(running, double):
    async def work(batcher):
        double.may.clear()
        computing = asyncio.create_task(batcher(images(1)))
        while not double.started.is_set():
            await asyncio.sleep(0)
        given_up = asyncio.create_task(batcher(images(5, 6, 7)))
        await asyncio.sleep(0)
        given_up.cancel()
        with suppress(asyncio.CancelledError):
            await given_up
        assert batcher.taken == 0
        double.may.set()
        return await computing, await batcher(images(2))

    assert running(work) == ([2], [4]) and double.sizes == [1, 1]
