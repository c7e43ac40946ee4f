"""How the loop divides a run into calls. The steps here only count; `test_train.py` has runs that train."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from resnet_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.hardware.sharding import make_mesh
from resnet_jax.training.loop import Call, advance, zero_metrics
from resnet_jax.training.metrics import TrainMetrics
from resnet_jax.training.setup import Run, assemble
from resnet_jax.training.state import TrainState

PER_EPOCH, PER_CALL, EPOCHS = 7, 3, 4


def count(state: TrainState, metrics: TrainMetrics, data: object, taken: jax.Array) -> tuple[TrainState, TrainMetrics]:
    steps = len(taken)
    return replace(state, step=state.step + steps), replace(metrics, count=metrics.count + steps)


@pytest.fixture(scope="module")
def start() -> tuple[Run, TrainState]:
    """Return a run of 4 epochs of 7 steps, with 3 steps per call and shrunk images in the first two epochs."""
    config = Config(
        model=ModelConfig(width=1),
        data=DataConfig(name="digits"),
        augment=AugmentConfig(small_size=4, small_share=0.5),
        train=TrainConfig(epochs=EPOCHS, batch_size=2),
    )
    split = Split(np.arange(15 * 8 * 8 * 3, dtype=np.uint8).reshape(15, 8, 8, 3), np.arange(15, dtype=np.int32) % 3)
    run, state = assemble(config, Dataset("blocks", ("a", "b", "c"), split, split), make_mesh(2, jax.devices()[:1]))
    return replace(run, program=replace(run.program, steps_per_call=PER_CALL), steps=count, small_steps=count), state


def calls(start: tuple[Run, TrainState], first: int = 0, end: int = EPOCHS * PER_EPOCH) -> list[Call]:
    run, state = start
    return list(advance(run, replace(state, step=state.step + first), zero_metrics(run.mesh), first, end))


@pytest.mark.parametrize(("first", "end"), [(0, 28), (0, 5), (5, 28), (6, 8), (9, 9)])
def test_the_steps_of_all_calls_add_up_to_the_end(start, first, end):
    assert first + sum(call.steps for call in calls(start, first, end)) == end


def test_each_call_has_the_step_of_its_state(start):
    assert all(call.step == call.state.step for call in calls(start, 5))


@pytest.mark.parametrize("first", [0, 5])
def test_no_call_crosses_the_end_of_an_epoch(start, first):
    assert all((call.step - call.steps) // PER_EPOCH == (call.step - 1) // PER_EPOCH for call in calls(start, first))


def test_a_call_takes_as_many_steps_as_the_program_says_until_the_epoch_ends(start):
    assert [call.steps for call in calls(start)] == [3, 3, 1] * EPOCHS


def test_metrics_are_sums_since_the_start_of_the_epoch(start):
    assert [int(call.metrics.count) for call in calls(start)] == [3, 6, 7] * EPOCHS


def test_first_marks_the_first_call_of_each_kind(start):
    marked = [(call.epoch, call.steps) for call in calls(start) if call.first]
    assert marked == [
        (0, 3),
        (0, 1),
        (2, 3),
        (2, 1),
    ]  # calls of 3 steps and of 1 step, first with shrunk images, then with full-size ones
