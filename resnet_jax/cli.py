"""The command `resnet-jax`: one subcommand for each file of `resnet_jax.commands`."""

from collections.abc import Callable

import absl.logging
import tyro

from resnet_jax.commands.benchmark import benchmark
from resnet_jax.commands.convert import convert
from resnet_jax.commands.doctor import doctor
from resnet_jax.commands.evaluate import evaluate
from resnet_jax.commands.export import export
from resnet_jax.commands.plan import plan
from resnet_jax.commands.predict import predict
from resnet_jax.commands.show import show
from resnet_jax.errors import run
from resnet_jax.hardware.compilation import keep_compiled

COMMANDS: dict[str, Callable[..., None]] = {
    "predict": predict,
    "evaluate": evaluate,
    "convert": convert,
    "export": export,
    "show": show,
    "benchmark": benchmark,
    "plan": plan,
    "doctor": doctor,
}


def main() -> None:
    """Runs the command line."""
    description = "Trained ResNets: predict, evaluate, convert, export, compare. To train one: python train.py --help"
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it does not need
    keep_compiled()
    run(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="resnet-jax", description=description))
