"""The end of an epoch: its figures are logged, and it is evaluated if that is due."""

import math

from resnet_jax.runs.checkpoint import Checkpoints
from resnet_jax.runs.logbook import Logbook
from resnet_jax.training.evaluation import measure
from resnet_jax.training.faults import diverged
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.progress import Display
from resnet_jax.training.setup import Run
from resnet_jax.training.state import TrainState
from resnet_jax.training.summary import figures_of


def finish_epoch(
    run: Run, state: TrainState, sums: TrainMetrics, logbook: Logbook, display: Display, checkpoints: Checkpoints
) -> float | None:
    """Log the epoch and evaluate it if that is due.

    Returns:
        The accuracy on "val", by which the best checkpoint is chosen; None without "val" or evaluation.
    """
    step, speed = int(state.step), display.images_per_second
    epoch = step // run.program.steps_per_epoch - 1
    loss, accuracy = float(sums.loss / sums.count), float(sums.correct / sums.count)
    rate = float(run.program.schedule(step - 1))
    figures = {"loss": loss, "accuracy": accuracy, "learning_rate": rate, "images_per_second": speed}
    logbook.write(step=step, epoch=epoch, split="train", **figures)
    line = f"epoch {epoch + 1}/{run.config.train.epochs}: train loss {loss:.4f} accuracy {accuracy:.2%}"
    score = None
    if (epoch + 1) % run.config.evaluate.every_epochs == 0 or step == run.program.total_steps:
        split = "val" if "val" in run.evaluations else "test"
        display.doing("evaluating")
        result = measure(run.eval_steps["none"], state.evaluated, run.evaluations[split])
        if not math.isfinite(result.mean_loss):
            raise diverged(f"the {split} loss after step {step}", checkpoints)
        logbook.write(step=step, epoch=epoch, split=split, **figures_of(result))
        line += f", {split} loss {result.mean_loss:.4f} accuracy {result.accuracy:.2%}"
        score = result.accuracy if split == "val" else None
    display.say(line + (f", {speed:,.0f} images/s" if speed else ""))
    return score
