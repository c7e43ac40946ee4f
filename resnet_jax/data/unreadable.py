"""Unreadable images of a stream: counted, named, and an error if there are many."""

import logging

from resnet_jax.data.encoded import Decoded, EncodedSplit
from resnet_jax.errors import UserError
from resnet_jax.hardware.processes import Tally

SHARE = 0.01
"""Share of a split's images that may be unreadable; with more, the run stops."""


class Unreadable:
    """Counts the unreadable images of a split over all processes, and logs each of them once."""

    def __init__(self, split: EncodedSplit):
        self._split = split
        self._tally = Tally()

    def add(self, batch: Decoded) -> None:
        """Count those of a batch.

        Raises:
            UserError: there are too many.
        """
        for place in sorted(set(batch.unreadable.ravel().tolist()) - {-1}):
            count, every = self._tally.add(place), self._split.num_images
            if count is None:  # known
                continue
            note = f"{_reason(self._split, place)} It is left out; {count:,} of {every:,} images are unreadable so far"
            if count > SHARE * every:
                raise UserError(f"{note}, over {SHARE:.0%}: restore the images, or remove the unreadable ones")
            logging.getLogger(__name__).warning("%s.", note)


def _reason(split: EncodedSplit, index: int) -> str:
    """Return why an image is unreadable, with its name."""
    try:
        split.image(index)
    except UserError as error:
        return str(error)
    return f"{split.origin(index)} could not be read once."
