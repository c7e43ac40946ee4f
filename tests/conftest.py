"""Settings of the whole test run: on the CPU, whatever the machine has."""

import gc
import os
import signal
import tempfile
from importlib.metadata import version

gc.set_threshold(100_000, 20, 100)  # with Python's own, collecting garbage takes a tenth of the time

ON_GPU = os.environ.get("RESNET_JAX_TESTS") == "gpu"  # for `pytest -m gpu`
if not ON_GPU:
    os.environ["JAX_PLATFORMS"] = "cpu"  # also for the processes under test

# Compiling takes most of a test's time. The CI script sets 0 for the parity tests, which compare rounding.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and version("jaxlib").startswith("0.10."):
    # They halve it again; jaxlib 0.12 refuses the first. All cores are busy with tests: each compiles with one thread.
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()

import jax  # noqa: E402

if not ON_GPU:
    jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts: the tests of sharding compare 1 device with 8

# Processes under test keep compiled programs here instead of in the user's cache. Workers, which inherit this variable
# before they import JAX, share the folder of the process that started them.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


def pytest_configure(config):
    # A shell without job control starts `pytest ... &` with Ctrl-C ignored, and the processes under test inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # flax's nnx.List derives from typing.MutableSequence, which beartype reports wherever one is an annotation.
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")


LONGEST = ("test_train.py", "test_parity_live.py", "test_pth.py", "test_notebook.py", "test_docs.py")


def pytest_collection_modifyitems(items):
    # The longest files start first; at the end, one would run while the other processes wait.
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))


def pytest_unconfigure(config):
    import shutil

    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
