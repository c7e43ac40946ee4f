"""Progress of a running training: a bar in a terminal, plain lines elsewhere."""

import time
from datetime import datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_jax.errors import printable
from resnet_jax.training.metrics import TrainMetrics

PLAIN_INTERVAL = 60.0  # seconds between plain progress lines
ROOMY = 100  # columns of a terminal that the bar with all figures needs


class Display:
    """Shows progress, results of epochs and messages.

    Args:
        console: output; a bar is drawn if it is a terminal.
        total_steps: steps of the whole run.
        batch_size: images in a step.
    """

    def __init__(self, console: Console, total_steps: int, batch_size: int):
        self.console = console
        self._total = total_steps
        self._batch_size = batch_size
        self._timed_steps = 0
        self._seconds = 0.0
        self._waiting = 0.0
        self._announced = False
        self._last_line = time.monotonic()
        self._roomy = console.width >= ROOMY
        self._bar = Progress(
            TextColumn("{task.description}"),
            *((BarColumn(bar_width=None), MofNCompleteColumn()) if self._roomy else ()),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._task = self._bar.add_task("training", total=total_steps, figures="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()

    @property
    def images_per_second(self) -> float | None:
        """Training throughput since the start or resumption, without compilation and evaluation."""
        return self._timed_steps * self._batch_size / self._seconds if self._timed_steps else None

    @property
    def waiting_share(self) -> float | None:
        """Share of the training time spent waiting for images."""
        return self._waiting / self._seconds if self._timed_steps else None

    def start(self, *lines: str) -> None:
        """Print the first lines, and say that the first step waits for the compiler, without a terminal in a line."""
        for line in lines:
            self.say(line)
        self.doing("compiling")
        if not self.console.is_terminal:
            self.say("compiling the training step, which takes seconds or, on a slow machine, minutes")

    def doing(self, what: str) -> None:
        """Show in the bar what is going on instead of training."""
        self._bar.update(self._task, description=what, figures="")

    def count(self, steps: int, started: float, waited: float, *, compiled: bool) -> None:
        """Count training steps that have just ended.

        Args:
            steps: their number.
            started: when they started, by `time.perf_counter`.
            waited: seconds of that time spent waiting for data.
            compiled: whether the time includes a compilation; such steps are not counted.
        """
        if not compiled:
            self._timed_steps += steps
            self._seconds += time.perf_counter() - started
            self._waiting += waited

    def running(self, epoch: int, step: int, sums: TrainMetrics) -> None:
        """Show the running figures of the epoch, after `step` steps of the run."""
        self._announce_end(step)
        figures = f"loss {sums.loss / sums.count:.3f} accuracy {sums.correct / sums.count:.1%}"
        if (speed := self.images_per_second) and (self._roomy or not self.console.is_terminal):
            figures += f" {speed:,.0f} images/s waiting {self.waiting_share:.0%}"
        self._bar.update(self._task, completed=step, description=f"epoch {epoch + 1}", figures=figures)
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > PLAIN_INTERVAL:
            self._last_line = now
            self.say(f"step {step}/{self._total} {figures} left {self._left(step)}")

    def say(self, message: str) -> None:
        """Print a line, above the bar if there is one."""
        self.console.print(printable(message), highlight=False, markup=False, soft_wrap=True)

    def _left(self, step: int) -> timedelta:
        return timedelta(seconds=round((self._total - step) * self._seconds / max(self._timed_steps, 1)))

    def _announce_end(self, step: int) -> None:
        if self._announced or self._timed_steps < 5 or self._seconds < 2:
            return
        self._announced = True
        left = self._left(step)
        self.say(f"training is expected to end on {datetime.now() + left:%Y-%m-%d at %H:%M}, in {left}")
        if left > timedelta(days=1):
            self.say(
                f"that is {left / timedelta(days=1):.1f} days: consider configs/cifar10_cpu.py (minutes on a CPU), a "
                "GPU or TPU (pip install -e '.[cuda13]' or '.[tpu]'), a smaller --model.width or fewer --train.epochs. "
                "Ctrl-C saves the run and ends it."
            )
