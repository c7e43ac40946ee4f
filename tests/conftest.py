"""Settings of the whole test run."""

import jax

jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts: the tests of sharding compare 1 device with 8


def pytest_configure(config):
    # flax's nnx.List derives from typing.MutableSequence, which beartype reports wherever one is an annotation.
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")
