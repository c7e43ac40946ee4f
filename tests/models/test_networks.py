"""Every network beside the ResNets against torchvision's, or another one in torch, with its weights."""

from copy import deepcopy
from functools import cache
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.layers.dropout import Dropout
from resnet_jax.weights.torchvision import assign, to_torchvision

NETWORKS = {  # torchvision's name, or timm's -> where it is here, its parameters with 1000 classes
    "alexnet": ("alexnet:AlexNet", 61_100_840),
    "mnasnet1_0": ("mnasnet:MNASNet", 4_383_312),
    "shufflenet_v2_x1_0": ("shufflenet:ShuffleNetV2", 2_278_604),
    "squeezenet1_1": ("squeezenet:SqueezeNet", 1_235_496),
    "densenet121": ("densenet:DenseNet121", 7_978_856),
    "googlenet": ("googlenet:GoogLeNet", 6_624_904),
    "vgg11_bn": ("vgg:VGG11BN", 132_868_840),
    "vgg16_bn": ("vgg:VGG16BN", 138_365_992),
    "mobilenet_v2": ("mobilenet_v2:MobileNetV2", 3_504_872),
    "mobilenet_v3_large": ("mobilenet_v3:MobileNetV3Large", 5_483_032),
    "regnet_y_400mf": ("regnet:RegNetY400MF", 4_344_144),
    "efficientnet_b0": ("efficientnet:EfficientNetB0", 5_288_548),
    "convnext_tiny": ("convnext:ConvNeXtTiny", 28_589_128),
    "resnet18d": ("resnet_d:ResNet18D", 11_708_744),
    "preact_resnet18": ("preact_resnet:PreActResNet18", 11_687_720),
    "blurpool_resnet18": ("blurpool_resnet:BlurPoolResNet18", 11_689_512),
    "plain18": ("plain:PlainNet18", 11_515_688),
    "plain34": ("plain:PlainNet34", 21_623_848),
}
OWN = {
    "resnet18d": "ResNet18D",
    "preact_resnet18": "PreActResNet18",
    "blurpool_resnet18": "BlurPoolResNet18",
    "plain18": "PlainNet18",
    "plain34": "PlainNet34",
}  # in torch_networks.py, since torchvision has none
CLASSES = 7
QUICK = ("squeezenet1_1", "mobilenet_v2", "convnext_tiny")  # of each kind; the others together take minutes


def parametrized(networks):
    marked = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in networks]
    return pytest.mark.parametrize("name", marked)


names = parametrized(NETWORKS)
kinds = parametrized([name for name in NETWORKS if name not in ("vgg16_bn", "plain34")])  # deeper versions of others


def make(name: str, num_classes: int = CLASSES, **options) -> ConvNet:
    module, network = NETWORKS[name][0].split(":")
    return getattr(import_module(f"resnet_jax.models.{module}"), network)(num_classes, **options)


def shapes(name: str, **options) -> ConvNet:
    return nnx.eval_shape(lambda: make(name, **options))


@names
def test_the_number_of_parameters_is_torchvisions(name):
    params = nnx.state(shapes(name, num_classes=1000), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == NETWORKS[name][1]


@names
@pytest.mark.parametrize("stem, side", [("imagenet", 224), ("cifar", 32)])
def test_each_stage_has_a_lower_resolution_and_the_logits_are_float32(name, stem, side):
    model = shapes(name, stem=stem)
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    found = jax.eval_shape(lambda model, images: (model.features(images), model(images)), model, images)
    sides = [maps.shape[1] for maps in found[0].stages]
    assert sides == sorted(set(sides), reverse=True) and sides[-1] >= 1
    assert (found[1].shape, found[1].dtype, found[0].pooled.dtype) == ((2, CLASSES), jnp.float32, jnp.float32)


@names
def test_every_weight_has_a_depth_and_only_the_classifier_has_0(name):
    model = shapes(name)
    depths = {path: model.depth(path) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert set(depths.values()) == set(range(max(depths.values()) + 1))
    assert {path for path, depth in depths.items() if depth == 0} == {
        path for path in depths if ".".join(map(str, path)).startswith(f"{model.head}.")
    }


@names
def test_bfloat16_changes_the_computation_and_not_the_types_of_weights_and_logits(name):
    model = shapes(name, dtype=jnp.bfloat16, stem="cifar")
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    features, logits = jax.eval_shape(lambda model, images: (model.features(images), model(images)), model, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    assert (features.stages[-1].dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)


def reference(name: str):
    """Return the network in torch, as it draws its weights."""
    import torch
    import torchvision

    torch.manual_seed(0)
    if name in OWN:
        return getattr(import_module("torch_networks"), OWN[name])(CLASSES)
    options = {"init_weights": True, "aux_logits": False, "transform_input": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=CLASSES, **options)


@cache
def pair(name: str):
    """Return our network and the one in torch with the same weights and statistics, to which every part contributes."""
    theirs = reference(name)
    for key, value in theirs.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        if key.endswith(("running_var", "layer_scale")):
            value.uniform_(0.8, 1.2)
    ours = shapes(name)
    assign(ours, {key: value.numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def relative(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parity  # needs torchvision
def test_logits_equal_torchvisions_in_float32(name):
    import torch

    ours, theirs = pair(name)
    images = np.random.default_rng(0).normal(size=(2, 128, 128, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    assert relative(nnx.jit(lambda model: model(images, train=False))(ours), expected) < 1e-4


@kinds
@pytest.mark.parity  # needs torchvision
@pytest.mark.slow  # compiles the network and its gradients
def test_logits_and_gradients_equal_torchvisions_in_float64(name):
    """Up to the classifier, which is float32; in float32 throughout, rounding turns single ReLUs and maxima over."""
    import torch

    theirs = deepcopy(pair(name)[1]).double().eval()
    rng = np.random.default_rng(0)
    images, weights = rng.normal(size=(2, 96, 96, 3)), rng.normal(size=(2, CLASSES))
    expected = theirs(torch.tensor(images.transpose(0, 3, 1, 2)))
    (expected * torch.tensor(weights)).sum().backward()
    gradients = {key: value.grad.numpy() for key, value in theirs.named_parameters()}
    with jax.enable_x64(True):
        ours = shapes(name, dtype=jnp.float64)
        assign(ours, {key: value.numpy() for key, value in pair(name)[1].state_dict().items()})
        graphdef, params, rest = nnx.split(ours, nnx.Param, ...)

        def score(params):
            logits = nnx.merge(graphdef, params, rest)(jnp.asarray(images), train=False)
            return (logits * weights).sum(), logits

        gradient, logits = jax.jit(jax.grad(score, has_aux=True))(params)
        found = to_torchvision(gradient)
    assert relative(logits, expected.detach().numpy()) < 1e-5
    largest = max(np.linalg.norm(value) for value in gradients.values())
    for key, value in gradients.items():
        error = np.linalg.norm(found[key] - value)
        assert error < 1e-4 * max(np.linalg.norm(value), 1e-3 * largest), key


@kinds
@pytest.mark.parity  # needs torchvision
@pytest.mark.slow  # compiles the network
def test_training_without_dropout_gives_torchvisions_logits_and_running_statistics(name):
    import torch

    ours, theirs = (deepcopy(each) for each in pair(name))
    images = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)
    for module in theirs.modules():
        if hasattr(module, "p"):  # of dropout and of stochastic depth
            module.p = 0.0
    for _, module in nnx.iter_modules(ours):
        if isinstance(module, Dropout):
            module.rate = 0.0
    with torch.no_grad():
        expected = theirs.train()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    graphdef, state = nnx.split(ours)

    @jax.jit
    def forward(state):
        model = nnx.merge(graphdef, state)
        return model(images, train=True), nnx.state(model)

    logits, state = forward(state)
    assert relative(logits, expected) < 1e-3
    found = to_torchvision(state)
    for key, value in theirs.named_buffers():
        if not key.endswith("num_batches_tracked"):
            assert relative(found[key], value.numpy()) < 1e-4, key


@names
@pytest.mark.parity  # needs torchvision
def test_weights_go_there_and_back_bit_for_bit(name):
    ours, theirs = pair(name)
    expected = {key: value.numpy() for key, value in theirs.state_dict().items()}
    found = to_torchvision(ours)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], value) for key, value in expected.items())


@parametrized([name for name in NETWORKS if name == "plain18" or (name not in OWN and name != "vgg16_bn")])
@pytest.mark.parity  # needs torchvision
def test_weights_are_drawn_with_torchvisions_means_and_deviations(name):
    """To 6 standard errors of the mean, and of the deviation, of both samples; our own draw as the ResNets do."""
    drawn = to_torchvision(nnx.jit(lambda: make(name))())
    for key, value in reference(name).named_parameters():
        ours, other = drawn[key], value.detach().numpy()
        error = other.std() / np.sqrt(other.size)
        assert abs(ours.mean() - other.mean()) <= 6 * np.sqrt(2) * error + 1e-7, key
        assert abs(ours.std() - other.std()) <= 6 * np.sqrt(2) * error + 1e-7, key


@names
def test_the_small_stem_differs_only_in_the_first_stage(name):
    model, small = shapes(name), shapes(name, stem="cifar")
    ours, others = (
        {path: variable.shape for path, variable in nnx.to_flat_state(nnx.state(network))} for network in (model, small)
    )
    deepest = max(map(model.depth, ours))
    assert ours.keys() == others.keys()
    assert {model.depth(path) for path in ours if ours[path] != others[path]} <= {deepest}
