"""The command `resnet-jax`, also as `python -m resnet_jax`."""

import sys

from resnet_jax.entry import run


def main() -> None:
    """Run the command line."""
    run(_call)


def _call() -> None:
    from resnet_jax.cli import call  # inside `run`, which handles Ctrl-C

    call(sys.argv[1:])


if __name__ == "__main__":
    main()
