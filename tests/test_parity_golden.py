"""The networks compute what torchvision's compute, by the records of `golden/record.py`, and take its weights."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from golden import draw
from golden.replay import replay

import resnet_jax
from resnet_jax.errors import UserError
from resnet_jax.weights.torchvision import load_torchvision, to_torchvision

MEMBERS = {"resnet18": resnet_jax.ResNet18, "resnet50": resnet_jax.ResNet50}


@pytest.fixture(scope="module", params=draw.CASES, ids=str)
def errors(request) -> dict[str, float]:
    """The error of every tensor of a record, by its key, for one case."""
    model = MEMBERS[request.param.name](num_classes=draw.CLASSES)
    shapes = {key: tensor.shape for key, tensor in to_torchvision(model).items()}
    load_torchvision(model, draw.draw_weights(shapes))
    ours = replay(model, *draw.draw_batches(request.param))
    with np.load(Path(__file__).parent / "golden" / f"{request.param}.npz") as record:
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


def tiny(**options) -> resnet_jax.ResNet:
    return resnet_jax.ResNet18(**({"num_classes": 5, "width": 4} | options))


def test_the_state_dict_of_a_network_has_torchvisions_keys_and_counters():
    tensors = to_torchvision(tiny())
    assert tensors["layer2.0.downsample.0.weight"].shape == (8, 4, 1, 1)
    assert tensors["fc.weight"].shape == (5, 32)
    counter = tensors["layer1.0.bn1.num_batches_tracked"]
    assert (counter.dtype, counter.shape, int(counter)) == (np.int64, (), 0)


def test_a_kernel_is_transposed_and_nothing_else():
    model = tiny()
    wanted = np.asarray(model.conv1.kernel[...]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(to_torchvision(model)["conv1.weight"], wanted)


def test_a_round_trip_returns_every_bit():
    shapes = {key: tensor.shape for key, tensor in to_torchvision(tiny()).items()}
    weights = draw.draw_weights(shapes)
    weights["fc.bias"][:3] = -0.0, np.nan, np.float32(1e-45)
    model = nnx.eval_shape(tiny)
    load_torchvision(model, weights)
    returned = to_torchvision(model)
    assert all(returned[key].tobytes() == tensor.tobytes() for key, tensor in weights.items())


def test_a_checkpoint_that_does_not_fit_is_refused_with_every_kind_of_fault():
    tensors = to_torchvision(tiny(num_classes=7))
    del tensors["bn1.bias"]
    tensors["layer9.weight"] = np.zeros(1)
    with pytest.raises(UserError, match=r"1 missing \(bn1\.bias\).*1 unexpected \(layer9\.weight\)") as caught:
        load_torchvision(tiny(), tensors)
    assert "fc.weight: got (7, 32), wanted (5, 32)" in str(caught.value)
    assert "replace `model.fc`" in str(caught.value)


def test_a_refused_checkpoint_leaves_the_model_as_it_was():
    model = tiny()
    before = to_torchvision(model)
    with pytest.raises(UserError):
        load_torchvision(model, to_torchvision(tiny(num_classes=7, rngs=nnx.Rngs(1))))
    assert all(np.array_equal(before[key], tensor) for key, tensor in to_torchvision(model).items())
