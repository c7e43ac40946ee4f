"""What `doctor` reports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    state: Literal["ok", "note", "problem"]
    subject: str
    found: str
    remedy: str = ""
