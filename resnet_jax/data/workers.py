"""Who decodes a stream of images: threads of this process, or processes of their own."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grain
from absl import flags

from resnet_jax.data.encoded import Decoded
from resnet_jax.errors import UserError

SHARED_MEMORY = "/dev/shm"
MOST = 32
"""Processes that are started by default, at most: each takes some 200 MB."""


@dataclass(frozen=True)
class Workers:
    """Iterates over batches, which are made ahead, in their order."""

    processes: int
    """Number of worker processes; 0 for threads of this process, one for each core."""

    def iterate(self, batches: "grain.MapDataset[Decoded]") -> "DecodedBatches":
        """Return an iterator over the batches, which starts to make them when it is first advanced."""
        threads = 1 if self.processes else cores()
        dataset = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads))
        if self.processes:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # Grain reads its flags, which absl.app would have parsed
            options = grain.MultiprocessingOptions(num_workers=self.processes)
            dataset = dataset.mp_prefetch(options, worker_init_fn=_begin)
        return DecodedBatches(iter(dataset))


class DecodedBatches:
    """An iterator over batches, to be closed: it has threads or processes.

    Args:
        iterator: of Grain.
    """

    def __init__(self, iterator: Any):
        self._iterator = iterator

    def __iter__(self) -> Iterator[Decoded]:
        return self

    def __next__(self) -> Decoded:
        """Return the next batch.

        Raises:
            UserError: a worker process was killed, perhaps because the memory that it shares with this one is full.
        """
        try:
            return next(self._iterator)
        except RuntimeError as error:
            if "Worker process" not in str(error):
                raise
            free = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else 0
            raise UserError(
                f"a process that decodes images has ended ({str(error).split('. ')[0]}). Memory or {SHARED_MEMORY} may "
                f"be full, which has {free / 1e9:.1f} GB free: give it more (docker run --shm-size=8g), or decode with "
                "fewer processes (--data.workers), or with none (--data.workers 0)."
            ) from error

    def close(self) -> None:
        """End the threads or processes."""
        self._iterator.close()


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(_number: int, _count: int) -> None:
    """Leave the signals that end a run to the training process, which saves first; end when that process has ended.

    A terminal sends Ctrl-C to all processes of a run, and a cluster SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
