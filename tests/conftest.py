"""Settings of the whole test run."""


def pytest_configure(config):
    # flax's nnx.List derives from typing.MutableSequence, which beartype reports wherever one is an annotation.
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")
