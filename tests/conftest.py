"""Settings of the whole test run."""

import signal

import jax

jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts: the tests of sharding compare 1 device with 8


def pytest_configure(config):
    # A shell without job control starts `pytest ... &` with Ctrl-C ignored, and the processes under test inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # flax's nnx.List derives from typing.MutableSequence, which beartype reports wherever one is an annotation.
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")
