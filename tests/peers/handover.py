"""Processor time of the training process for each streamed image, with a worker that decodes nothing.

    python tests/peers/handover.py

Prints images per second by the clock, and per second of the training process's own processor time.
"""

import time
from dataclasses import dataclass

import grain
import jax
import numpy as np

from resnet_jax.data.encoded import Decoded
from resnet_jax.data.feed import Examples
from resnet_jax.data.workers import Workers
from resnet_jax.hardware.sharding import from_parts, make_mesh, sharded

BATCH, STEPS, FIRST = 256, 60, 10


@dataclass(frozen=True)
class Blank(grain.transforms.Map):
    """Makes a black image."""

    def map(self, element: int) -> Decoded:
        return Decoded(np.zeros((224, 224, 3), np.uint8), np.int32(0), np.int32(element), np.int32(-1))


def main() -> None:
    batches = Workers(1).iterate(grain.MapDataset.range(10**6).map(Blank()).batch(BATCH))
    sharding = sharded(make_mesh(BATCH, jax.devices()[:1]), axis=1)
    clock = own = 0.0
    for step in range(STEPS):
        if step == FIRST:
            clock, own = time.perf_counter(), time.process_time()
        batch = next(batches)
        local = (np.stack([array]) for array in (batch.image, batch.label, batch.place))  # as StreamFeed does
        jax.block_until_ready(Examples(*(from_parts(array, sharding) for array in local)))
    images = BATCH * (STEPS - FIRST)
    print(f"{images / (time.perf_counter() - clock):,.0f} images/s by the clock")
    print(f"{images / (time.process_time() - own):,.0f} images per second of this process's processor time")
    batches.close()


if __name__ == "__main__":
    main()
