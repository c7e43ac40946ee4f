"""The command `resnet-jax`: a table of subcommands, each a module of `resnet_jax.commands`."""

from importlib import import_module

import absl.logging
import tyro

import resnet_jax
from resnet_jax.commands.usage import fitting_help
from resnet_jax.errors import UsageError
from resnet_jax.hardware.compilation_cache import keep_compiled

COMMANDS = {
    "prepare": "write images as a prepared data set, perhaps smaller",
    "train": "train a network from a recipe",
    "predict": "classify images",
    "evaluate": "measure accuracy, loss and calibration on a whole split",
    "convert": "write weights as .pth, .safetensors or a folder",
    "export": "write a network for other programs: ONNX, StableHLO, safetensors",
    "serve": "answer HTTP requests for the classes of images",
    "show": "compare runs: curves, figures, differences",
    "list": "list the networks: parameters, published weights and their accuracy",
    "compare": "compare networks: size, speed, and accuracy after the same training",
    "benchmark": "measure training and inference speed on this machine",
    "record": "time complete training runs of a recipe, as speed records are timed",
    "plan": "compile for another machine: does the training fit, and how fast could it be",
    "doctor": "check devices, versions, caches and disks",
}
USAGE = "usage: resnet-jax COMMAND ..."


def call(words: list[str]) -> None:
    """Run one command.

    Args:
        words: those of the command line, starting with the command's name.

    Raises:
        UsageError: there is no such command.
    """
    name, *rest = words or ["--help"]
    if name == "--version":
        print(f"resnet-jax {resnet_jax.__version__}")
        return
    if name in ("-h", "--help"):
        print(overview())
        return
    if name not in COMMANDS:
        raise UsageError(f"got the command {name!r}, expected one of {', '.join(COMMANDS)}; see resnet-jax --help")
    command = getattr(import_module(f"resnet_jax.commands.{name}"), name)
    absl.logging.set_verbosity(absl.logging.ERROR)  # Orbax warns of what it does not need
    keep_compiled()
    if name in ("train", "record", "compare"):  # their options are those of a recipe
        command(rest)
    else:
        with fitting_help(rest):
            tyro.cli(command, prog=f"resnet-jax {name}", args=rest)


def overview() -> str:
    """Return what `resnet-jax --help` prints."""
    rows = "\n".join(f"  {name:<10} {what}" for name, what in COMMANDS.items())
    return f"{USAGE}\n\n{rows}\n\nresnet-jax COMMAND --help shows its options with an example."
