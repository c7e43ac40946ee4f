"""TensorBoard's event files."""

import sys
import time
from pathlib import Path

# tensorboardX imports torch if it is installed, which takes half a second and starts threads, but does not use it. With
# None in place of the module, tensorboardX treats torch as not installed.
_absent = object()
_torch = sys.modules.get("torch", _absent)
if _torch is _absent:
    sys.modules["torch"] = None  # type: ignore[assignment]
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402
from tensorboardX.proto.event_pb2 import Event, SessionLog  # noqa: E402
from tensorboardX.summary import scalar  # noqa: E402

if _torch is _absent:
    del sys.modules["torch"]


class EventFile:
    """One event file of a run.

    Not tensorboardX's SummaryWriter: its thread dies when the disk is full, and the run then waits for it forever.

    Args:
        folder: made if it does not exist.
        step: step that the run continues from; TensorBoard then hides later events of older files.
    """

    def __init__(self, folder: Path, *, step: int):
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), filename_suffix=f".{step}")
        self._writer.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write scalars by tag."""
        for tag, value in figures.items():
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
