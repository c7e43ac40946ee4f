"""Reloading a run's weights while it trains."""

import asyncio
import logging
from pathlib import Path

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.runs.folder import complete_steps
from resnet_jax.serving.model import ServedModel

INTERVAL = 2.0  # between two looks into the run folder, seconds


def checkpoints_of(source: str) -> Path | None:
    """Return the folder of a run's checkpoints; None if `source` is not a run."""
    folder = Path(source) / "checkpoints"
    return folder if folder.is_dir() else None


async def watch(model: ServedModel, checkpoints: Path) -> None:
    """Load the weights that `predict` would use whenever the run has other checkpoints, until this is cancelled."""
    seen: list[int] = []
    while True:
        if (steps := complete_steps(checkpoints)) != seen:
            seen = steps
            try:
                classifier = await asyncio.to_thread(load_classifier, model.source)
                if classifier.info["step"] != model.step:
                    await model.replace(classifier)
            except Exception as error:  # such as a checkpoint that was removed while it was read; the next one will do
                logging.getLogger(__name__).warning("%s was not reloaded: %s", model.source, error)
        await asyncio.sleep(INTERVAL)
