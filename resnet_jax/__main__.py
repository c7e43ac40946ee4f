"""`python -m resnet_jax` is the command `resnet-jax`."""

from resnet_jax.cli import main

main()
