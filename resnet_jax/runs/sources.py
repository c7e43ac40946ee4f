"""What a run learns from, compared with what it has learned from so far."""

from collections.abc import Iterator
from typing import Any

from resnet_jax.errors import UserError

COMPARED = ("class_names", "image_shape", "train_images", "test_images", "mean", "std", "data", "teacher")
"""Metadata that describe what a run learns from: it continues only with the same images and the same teacher."""


def check_sources(stored: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare what a checkpoint says of its images and its teacher with those of now.

    Raises:
        UserError: they differ.
    """
    both = [key for key in COMPARED if key in stored and key in now]
    changed = [line for key in both for line in _differences(key, stored[key], now[key])]
    if changed:
        shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise UserError(
            f"the images or the teacher are not those of the run so far ({shown}): restore them, or start again with "
            "another --workdir"
        )


def _differences(name: str, stored: Any, now: Any) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*stored, *now)):
            yield from _differences(f"{name} {key}", stored.get(key), now.get(key))
    elif stored != now:
        yield f"{name}: {stored} -> {now}"
