"""Where compiled programs are kept between runs. Importing it loads no JAX."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from platformdirs import user_cache_path


def keep_compiled() -> None:
    """Make JAX keep compiled programs in this project's cache, unless the environment names another folder.

    A second run of the same configuration then starts in half the time. JAX reads these variables when it is imported,
    and child processes inherit them.
    """
    folder = user_cache_path("resnet_jax", appauthor=False) / "compiled"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@contextmanager
def compiling_anew() -> Iterator[None]:
    """Neither read nor write kept programs inside, so that the time of a compilation can be measured."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    config: Any = jax.config  # its flags are attributes that type checkers do not see
    before = config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # it reads the option only once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()
