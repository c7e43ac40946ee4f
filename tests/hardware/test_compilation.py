"""Compiled steps, whose state has the memory layouts that the compiler chooses."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.layout import Format, Layout
from jax.sharding import SingleDeviceSharding

from resnet_jax.hardware import compilation
from resnet_jax.hardware.compilation import CompiledStep
from resnet_jax.hardware.compilation_cache import compiling_anew
from resnet_jax.models.cpu.processor import has_onednn
from resnet_jax.models.layers.convolution import convolve


def step(state: dict, images: jax.Array) -> tuple[dict, jax.Array]:
    kernel = state["kernel"] + jax.random.normal(state["key"], state["kernel"].shape)
    out = jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return {"kernel": kernel, "key": jax.random.fold_in(state["key"], 1)}, out.sum()


def start(major_to_minor: tuple[int, ...] = (0, 1, 2, 3)) -> dict:
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 5)), jnp.float32)
    layout = Format(Layout(major_to_minor), SingleDeviceSharding(jax.devices()[0]))
    return {"kernel": jax.device_put(kernel, layout), "key": jax.random.key(0)}


def test_a_compiled_step_computes_the_same_as_its_function():
    images = jnp.ones((2, 6, 6, 4))
    expected = step(step(start(), images)[0], images)[0]["kernel"]
    compiled = CompiledStep(step)
    got = compiled(compiled(start(), images)[0], images)[0]["kernel"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_state_in_another_layout_is_accepted():
    images = jnp.ones((2, 6, 6, 4))
    expected = step(start(), images)[1]
    np.testing.assert_allclose(CompiledStep(step)(start((3, 0, 1, 2)), images)[1], expected, rtol=1e-5)


def test_a_program_that_has_run_accepts_a_state_in_another_layout():
    compiled, images = CompiledStep(step), jnp.ones((2, 6, 6, 4))
    expected = compiled(start(), images)[1]
    assert compiled(start((3, 0, 1, 2)), images)[1] == expected


def test_each_shape_of_the_other_arguments_has_its_own_program():
    compiled, state = CompiledStep(step), start()
    for count in (2, 3, 2):
        state, total = compiled(state, jnp.ones((count, 6, 6, 4)))
        assert np.isfinite(total)


def test_the_state_is_returned_in_the_layout_in_which_it_is_passed():
    program = CompiledStep(step).program(start(), jnp.ones((2, 6, 6, 4)))
    assert [each.layout for each in program.input_formats[0][0]] == [each.layout for each in program.output_formats[0]]


def test_options_that_this_xla_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", {"xla_cpu_of_tomorrow": True})
    compilation.compiler_options.cache_clear()
    assert compilation.compiler_options("cpu") == {}
    compilation.compiler_options.cache_clear()


INTERRUPTED = """
import jax, jax.monitoring, os, signal, threading
from resnet_jax.hardware.compilation import compile_lowered

ended = []
lowered = jax.jit(lambda x: [(x @ x + n).sum() for n in range(600)]).lower(jax.numpy.ones((8, 8)))
jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: ended.append(name))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    compile_lowered(lowered)
except KeyboardInterrupt:
    print("interrupted", ended, flush=True)
os._exit(0)
"""


def test_ctrl_c_does_not_wait_for_a_compilation():
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert result.stdout == "interrupted []\n", result.stderr


needs_onednn = pytest.mark.skipif(not has_onednn(), reason="jaxlib has no oneDNN here, or in an untested release")


def depthwise(factor: float) -> CompiledStep:
    """Return a new step that convolves by oneDNN, with the constant `factor` in its program."""
    factors = np.full(4, factor, np.float32)
    return CompiledStep(lambda kernel, images: (kernel, convolve(images, kernel, 1, 1, groups=4) * factors))


@needs_onednn
def test_a_program_of_onednn_is_compiled_once_for_all_runs():
    arguments = jnp.ones((3, 3, 1, 4)), jnp.ones((1, 5, 5, 4))
    first = depthwise(2.0).program(*arguments)
    assert depthwise(2.0).program(*arguments) is first
    with compiling_anew():
        assert depthwise(2.0).program(*arguments) is not first


@needs_onednn
def test_programs_of_onednn_with_other_constants_are_not_confused():
    arguments = jnp.ones((3, 3, 1, 4)), jnp.ones((1, 5, 5, 4))
    results = [depthwise(factor)(jnp.copy(arguments[0]), arguments[1])[1][0, 2, 2, 0] for factor in (2.0, 3.0)]
    assert results == [18.0, 27.0]


@needs_onednn
def test_the_oldest_kept_program_is_forgotten(monkeypatch):
    monkeypatch.setattr(compilation, "KEPT", {})
    for factor in range(compilation.MOST_KEPT + 2):
        depthwise(factor).program(jnp.ones((3, 3, 1, 4)), jnp.ones((1, 5, 5, 4)))
    assert len(compilation.KEPT) == compilation.MOST_KEPT
