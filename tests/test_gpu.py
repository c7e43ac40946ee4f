"""Tests that need a GPU: RESNET_JAX_TESTS=gpu pytest -m gpu -n 0 tests/test_gpu.py"""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resnet_jax.benchmarking.workload import Workload
from resnet_jax.config import ModelConfig
from resnet_jax.hardware.compiled import memory_of

pytestmark = pytest.mark.gpu
SHAPE = {"num_classes": 10, "batch_size": 256, "image_size": 32}


@pytest.fixture(scope="module")
def workload() -> Workload:
    assert jax.default_backend() == "gpu", "run with RESNET_JAX_TESTS=gpu on a machine with a GPU"
    return Workload(ModelConfig(), **SHAPE)


def first_step(dtype: str) -> tuple[float, np.ndarray]:
    """Return the mean loss of the first step, and its update, which points along the gradient, as one vector."""
    workload = Workload(ModelConfig(dtype=dtype), **SHAPE)
    state = jax.tree.map(jnp.copy, workload._state)
    before = jax.device_get(state.params)
    state, metrics = workload._train_step(state, workload._batch)
    updates = jax.tree.map(lambda new, old: (new - old).ravel(), jax.device_get(state.params), before)
    return float(metrics.loss / metrics.count), np.concatenate(jax.tree.leaves(updates))


def test_the_step_in_bfloat16_agrees_with_that_in_float32():
    (narrow_loss, narrow), (wide_loss, wide) = first_step("bfloat16"), first_step("float32")
    assert narrow_loss == pytest.approx(wide_loss, rel=0.02)
    cosine = narrow @ wide / np.linalg.norm(narrow) / np.linalg.norm(wide)
    assert cosine > 0.9  # 0.954 on a CPU, 8 channels wide, 32 images of 8x8


def test_the_compiled_step_transposes_no_weights(workload):
    text = workload.train_program.as_text()
    assert re.findall(r"= \w+\[\d+,\d+,\d+,\d+\]\S* transpose\(%?param", text) == []


def test_the_step_needs_no_more_memory_than_when_it_was_compiled_for_an_h100(workload):
    """Compiled for an H100, it needs 2.385 MB of temporaries per image, and the state."""
    temporaries = workload.train_program.memory_analysis().temp_size_in_bytes
    assert temporaries / SHAPE["batch_size"] < 3e6 and memory_of(workload.train_program) > temporaries


def test_benchmark_completes():
    command = [sys.executable, "-m", "resnet_jax", "benchmark", "--repeats", "2", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(result.stdout)
    assert figures["dtype"] == "bfloat16" and figures["train_images_per_second"] > 1000
