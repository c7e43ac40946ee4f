"""The whole family computes what an installed torchvision computes: `pytest -m parity`, with the parity extra."""

import inspect
import re
from urllib.error import URLError

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import draw
from golden.replay import evaluate, replay

import resnet_jax
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.errors import UserError
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights.torchvision import to_torchvision

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

MEMBERS = {
    "resnet18": resnet_jax.ResNet18,
    "resnet34": resnet_jax.ResNet34,
    "resnet50": resnet_jax.ResNet50,
    "resnet101": resnet_jax.ResNet101,
    "resnet152": resnet_jax.ResNet152,
    "wide_resnet50_2": resnet_jax.WideResNet50_2,
    "wide_resnet101_2": resnet_jax.WideResNet101_2,
    "resnext50_32x4d": resnet_jax.ResNeXt50_32x4d,
    "resnext101_32x8d": resnet_jax.ResNeXt101_32x8d,
    "resnext101_64x4d": resnet_jax.ResNeXt101_64x4d,
}
CIFAR = "resnet18 with the cifar stem"
FIVE_STEPS = ("resnet18", "resnet50", CIFAR)  # the others take one step, to save time
DEEP = ("resnet101", "resnet152", "wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d")
"""Evaluated as they are. Compiling their gradients takes minutes, and the blocks are those of the networks trained."""
SHORT = {"resnext101_32x8d with a block in each stage": "resnext101_32x8d"}  # the groups of 64x4d are those of 50_32x4d
TRAINED = [*(name for name in MEMBERS if name not in DEEP), CIFAR, *SHORT]


def torch_model(name: str, num_classes: int = draw.CLASSES) -> "torch.nn.Module":
    if name in SHORT:
        groups, width = map(int, re.findall(r"(\d+)x(\d+)d", name)[0])
        block = torchvision.models.resnet.Bottleneck
        return torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes, groups=groups, width_per_group=width)
    if name != CIFAR:
        return torchvision.models.get_model(name, num_classes=num_classes)
    model = torchvision.models.resnet18(num_classes=num_classes)
    model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    return model


def our_model(name: str, num_classes: int = draw.CLASSES) -> resnet_jax.ResNet:
    if name == CIFAR:
        return resnet_jax.ResNet18(num_classes=num_classes, stem="cifar")
    if name in SHORT:
        return type("Short", (MEMBERS[SHORT[name]],), {"stage_sizes": (1, 1, 1, 1)})(num_classes=num_classes)
    return MEMBERS[name](num_classes=num_classes)


def compare(name: str, steps: int) -> dict[str, float]:
    """Return the error of every logit and stage and, with steps, gradient and trained weight of a network, by key."""
    from golden.record import record

    reference = torch_model(name)
    weights = draw.draw_weights({key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()})
    reference.load_state_dict({key: torch.tensor(value) for key, value in weights.items()}, strict=False)
    ours = nnx.eval_shape(lambda: our_model(name))
    load_torchvision(ours, weights)
    images, labels = draw.draw_batches(draw.Case(name, 32 if name == CIFAR else 64, batch_size=4))
    expected = record(reference, images, labels, steps)
    got = replay(ours, images[:steps], labels[:steps]) if steps else evaluate(ours, images)
    assert got.keys() == expected.keys()
    return draw.errors(*({key: draw.condense(key, tensor) for key, tensor in side.items()} for side in (got, expected)))


@pytest.fixture(scope="module", params=TRAINED)
def errors(request) -> dict[str, float]:
    return compare(request.param, draw.STEPS if request.param in FIVE_STEPS else 1)


@pytest.mark.parametrize("name", DEEP)
def test_the_deep_networks_match_in_the_logits_and_every_stage(name):
    assert largest(compare(name, steps=0), "eval/") < 1e-4


def largest(errors: dict[str, float], prefix: str) -> float:
    return max(value for key, value in errors.items() if key.startswith(prefix))


def test_evaluation_matches_in_the_logits_and_every_stage(errors):
    assert largest(errors, "eval/") < 1e-4


def test_training_matches_in_the_logits_the_loss_and_every_stage(errors):
    assert largest(errors, "train/") < 1e-4


def test_gradients_match(errors):
    assert largest(errors, "gradient/") < 1e-3


def test_weights_and_running_statistics_match_after_training(errors):
    # Five steps move the median tensor by 1e-3.
    assert largest(errors, "trained/") < 5e-4


@pytest.mark.parametrize("name", MEMBERS)
def test_the_number_of_parameters_is_torchvisions(name):
    with torch.device("meta"):
        expected = sum(parameter.numel() for parameter in torch_model(name, 1000).parameters())
    params = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: our_model(name, 1000)), nnx.Param))
    assert sum(variable.size for _, variable in params) == expected == REGISTRY[name].parameters


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d"])
def test_weights_are_drawn_with_torchvisions_scales(name):
    torch.manual_seed(0)
    ours, expected = to_torchvision(our_model(name)), torch_model(name).state_dict()
    for key, tensor in expected.items():
        tensor = tensor.numpy()
        sampling_error = tensor.std() / np.sqrt(tensor.size)  # of the difference of two standard deviations
        assert abs(ours[key].std() - tensor.std()) <= 5 * sampling_error, key
        assert abs(ours[key].mean() - tensor.mean()) <= 5 * np.sqrt(2) * sampling_error, key


def test_our_weights_load_strictly_into_torchvision():
    ours = to_torchvision(our_model("resnet18"))
    model = torch_model("resnet18")
    model.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in ours.items()}, strict=True)
    assert all(np.array_equal(tensor.numpy(), ours[key]) for key, tensor in model.state_dict().items())


def test_a_state_dict_of_torch_tensors_loads_as_it_is():
    state_dict = torch_model("resnet18").state_dict()
    model = our_model("resnet18")
    load_torchvision(model, state_dict)
    assert all(np.array_equal(tensor, state_dict[key].numpy()) for key, tensor in to_torchvision(model).items())


SOURCES = {
    "a module": lambda reference: reference,
    "a wrapped module": torch.nn.DataParallel,
    "parameters that require gradients": lambda reference: (
        dict(reference.named_parameters()) | dict(reference.named_buffers())
    ),
    "a checkpoint": lambda reference: {"epoch": 3, "model": reference.state_dict()},
    "double precision": lambda reference: {key: it.double() for key, it in reference.state_dict().items()},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_torchs_weights_load_bit_for_bit_from(kind):
    reference = torch_model("resnet18")
    expected, source = reference.state_dict(), SOURCES[kind](reference)
    model = our_model("resnet18")
    load_torchvision(model, source)
    for loaded in (model, resnet_jax.from_pretrained("resnet18", source)):
        assert all(np.array_equal(tensor, expected[key].numpy()) for key, tensor in to_torchvision(loaded).items())


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_tensors_of_torch_load_with_their_values(kind):
    state_dict = {key: it.to(getattr(torch, kind)) for key, it in torch_model("resnet18").state_dict().items()}
    model = our_model("resnet18")
    load_torchvision(model, state_dict)
    tensors = to_torchvision(model)
    assert tensors["conv1.weight"].dtype == np.float32
    assert all(np.array_equal(tensor, state_dict[key].float().numpy()) for key, tensor in tensors.items())


def test_a_torch_module_without_values_is_refused():
    with torch.device("meta"):
        reference = torch_model("resnet18")
    with pytest.raises(UserError, match="meta"):
        load_torchvision(our_model("resnet18"), reference)


def test_images_as_a_torch_tensor_are_refused_with_remedies_that_work():
    images, model = torch.zeros(2, 3, 32, 32), our_model(CIFAR)
    with pytest.raises(TypeError, match=r"got a Tensor.*jax\.numpy\.asarray"):
        inspect.unwrap(resnet_jax.Conv.__call__)(model.conv1, images)
    with pytest.raises(ValueError, match=r"images\.transpose\(0, 2, 3, 1\)"):
        inspect.unwrap(resnet_jax.Conv.__call__)(model.conv1, jnp.asarray(images))
    assert model(jnp.asarray(images).transpose(0, 2, 3, 1)).shape == (2, draw.CLASSES)


def test_the_running_variance_is_torchs_unbiased_one():
    images = np.random.default_rng(0).normal(size=(2, 1, 2, 3)).astype(np.float32)
    ours, reference = resnet_jax.BatchNorm(3), torch.nn.BatchNorm2d(3)
    ours(jnp.asarray(images), train=True)
    reference(torch.tensor(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours.var[...], reference.running_var.numpy(), rtol=1e-6)


@pytest.mark.network
def test_the_published_resnet18_gives_torchvisions_logits():
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    try:
        reference = torchvision.models.resnet18(weights=weights).eval()
    except URLError as reason:
        pytest.skip(f"the weights cannot be downloaded: {reason}")
    ours = nnx.eval_shape(lambda: our_model("resnet18", 1000))
    load_torchvision(ours, reference.state_dict())
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    assert np.abs(ours(jnp.asarray(images)) - expected).max() < 1e-4 * np.abs(expected).max()
