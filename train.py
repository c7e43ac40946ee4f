"""Train a network: python train.py --config configs/digits.py [--section.field value ...] [--workdir DIR]"""

from resnet_jax.entry import run


def main() -> None:
    from resnet_jax.commands.train import train  # inside `run`, which handles Ctrl-C

    train(prog="train.py")


if __name__ == "__main__":
    run(main, stopped="stopped at once; the same command with the same --workdir continues from the last checkpoint")
