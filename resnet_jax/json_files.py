"""JSON from outside, which others may have written or damaged: its size, form and ranges are checked."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from resnet_jax.checked_text import read_text
from resnet_jax.errors import UserError

LARGEST = 1 << 26
"""Largest file that is read, bytes; no valid file is larger."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Finite = Annotated[float, msgspec.Meta(gt=-1e6, lt=1e6)]
Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e6)]


def read_json(path: Path, kind: Any, remedy: str) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: type of its content, as msgspec knows it.
        remedy: what to do if it can't be read.

    Raises:
        UserError: it can't be read, is larger than `LARGEST`, or has other content.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, more than {LARGEST:,}")
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"can't read {path} ({error}): {remedy}") from error
    return check_json(content, kind, str(path), remedy)


def check_json(content: Any, kind: Any, name: str, remedy: str) -> Any:
    """Return JSON's values as `kind`.

    Args:
        content: of JSON's types.
        kind: the expected type, as msgspec knows it.
        name: of the content, for the message.
        remedy: what to do if it has another type.

    Raises:
        UserError: the content has another type.
    """
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{name} is not as expected ({error}): {remedy}") from error
