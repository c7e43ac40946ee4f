"""The network of a run: drawn from the seed, or started from pretrained weights."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.classifier.trained import Trained, read_trained
from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError
from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.network import PUBLISHED_WIDTH, Network
from resnet_jax.training.randomness import split_by_purpose

OPTIONS = ("recompute", "drop_path")
"""Fields of `ModelConfig` that not every network has."""


def make_model(config: Config, num_classes: int, key: Key[Array, ""]) -> ConvNet:
    """Draw the weights of the network that a resolved configuration describes, from `key` instead of its seed.

    Raises:
        UsageError: the architecture does not exist in this width, or does not have one of `OPTIONS`.
    """
    network = Network(config.model.arch, num_classes, config.model.stem, config.model.width)
    assert config.model.dtype is not None
    options = {name: value for name in OPTIONS if (value := getattr(config.model, name))}
    try:
        return network.build(dtype=jnp.dtype(config.model.dtype), rngs=nnx.Rngs(params=key), **options)
    except ValueError as error:
        option = "width" if config.model.width != PUBLISHED_WIDTH else next(iter(options))
        got, name = getattr(config.model, option), option.replace("_", "-")
        raise UsageError(f"--model.{name}: got {got} with {config.model.arch}: {error}") from error


def draw_model(config: Config, num_classes: int) -> ConvNet:
    """Draw the weights as one program, which compiles faster than the 62 draws one by one, and once for all seeds."""
    key = split_by_purpose(jax.random.key(config.train.seed)).params
    return nnx.jit(partial(make_model, config, num_classes))(key)


def start_from(model: ConvNet, source: str, settings: ModelConfig) -> Trained:
    """Set pretrained weights under the fresh classifier of `model`, in place.

    Args:
        model: the network, as `settings` describe it.
        source: a weights file, a run folder or a published name.
        settings: of the network.

    Returns:
        What `source` holds, with the mean and standard deviation by which the weights expect images to be normalized.

    Raises:
        UsageError: the weights belong to another network.
        UserError: they can't be read.
    """
    trained = read_trained(source)
    network = trained.network
    if not network.entry.shows_stem:
        network = replace(network, stem=settings.stem)
    given, expected = (
        f"--model.arch {it.arch} --model.stem {it.stem} --model.width {it.width}" for it in (settings, network)
    )
    if given != expected:
        raise UsageError(f"--model.pretrained {source}: got {given}, and the weights need {expected}: give these")
    load_torchvision(model, trained.tensors, head="fresh")
    return trained
