"""The networks compute what torchvision's networks compute, compared with the records of `golden/record.py`."""

from pathlib import Path

import jax
import numpy as np
import pytest
from golden import draw
from golden.replay import replay

import resnet_jax
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.weights.torchvision import to_torchvision

MEMBERS = {"resnet18": resnet_jax.ResNet18, "resnet50": resnet_jax.ResNet50}


def marked(case: draw.Case):
    return pytest.param(case, marks=() if str(case) == "resnet18_64" else pytest.mark.slow, id=str(case))


@pytest.fixture(scope="module")
def optimized():
    """Turn on XLA's optimizations: without them, these networks run longer than it takes to compile with them."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", params=map(marked, draw.CASES))
def errors(request, optimized) -> dict[str, float]:
    """Return the error of every tensor of one recorded case, by key."""
    model = MEMBERS[request.param.name](num_classes=draw.CLASSES)
    shapes = {key: tensor.shape for key, tensor in to_torchvision(model).items()}
    load_torchvision(model, draw.draw_weights(shapes))
    ours = replay(model, *draw.draw_batches(request.param))
    with np.load(Path(__file__).parents[1] / "golden" / f"{request.param}.npz") as record:
        assert ours.keys() == set(record)
        return draw.errors({key: draw.condense(key, tensor) for key, tensor in ours.items()}, dict(record))


def largest(errors: dict[str, float], prefix: str) -> float:
    return max(error for key, error in errors.items() if key.startswith(prefix))


def test_evaluation_matches_torchvision_in_the_logits_and_every_stage(errors):
    assert largest(errors, "eval/") < 1e-4


def test_training_matches_torchvision_in_the_logits_the_loss_and_every_stage(errors):
    assert largest(errors, "train/") < 1e-4


def test_gradients_match_torchvision(errors):
    assert largest(errors, "gradient/") < 1e-3


def test_weights_and_running_statistics_match_torchvision_after_five_steps(errors):
    assert largest(errors, "trained/") < 1e-4  # five steps move the median tensor by 1e-3
