"""The command `resnet-jax`: one subcommand for each file of `resnet_jax.tools`."""

from collections.abc import Callable

import absl.logging
import jax
import tyro

from resnet_jax.data.cache import cache_dir
from resnet_jax.errors import run
from resnet_jax.tools.convert import convert
from resnet_jax.tools.doctor import doctor
from resnet_jax.tools.evaluate import evaluate
from resnet_jax.tools.export import export
from resnet_jax.tools.predict import predict
from resnet_jax.tools.show import show

COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict,
    "evaluate": evaluate,
    "convert": convert,
    "export": export,
    "show": show,
    "doctor": doctor,
}


def main() -> None:
    """Runs the command line."""
    description = "Trained ResNets: predict, evaluate, convert, export, compare. To train one: python train.py --help"
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it does not need
    # The second call starts in half the time.
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    run(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="resnet-jax", description=description))
