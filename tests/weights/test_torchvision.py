"""Conversion between torchvision's state dicts and the modules, without torch."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import draw

import resnet_jax
from resnet_jax.errors import UserError
from resnet_jax.weights.torchvision import Misfit, assign, to_torchvision, torchvision_shapes


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
    expected = np.asarray(model.conv1.kernel[...]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(to_torchvision(model)["conv1.weight"], expected)


def test_a_round_trip_keeps_every_bit():
    shapes = {key: tensor.shape for key, tensor in to_torchvision(tiny()).items()}
    weights = draw.draw_weights(shapes)
    weights["fc.bias"][:3] = -0.0, np.float32(3e38), np.float32(1e-45)
    model = nnx.eval_shape(tiny)
    assign(model, weights)
    returned = to_torchvision(model)
    assert all(returned[key].tobytes() == tensor.tobytes() for key, tensor in weights.items())


def test_a_checkpoint_that_does_not_fit_is_refused_with_every_kind_of_fault():
    tensors = to_torchvision(tiny(num_classes=7))
    del tensors["bn1.bias"]
    tensors["layer9.weight"] = np.zeros(1)
    with pytest.raises(Misfit, match=r"1 missing \(bn1\.bias\).*1 unexpected \(layer9\.weight\)") as caught:
        assign(tiny(), tensors)
    assert "fc.weight: got (7, 32), expected (5, 32)" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_in_float32_are_refused_by_name(value):
    tensors = to_torchvision(tiny())
    tensors["layer3.0.bn2.running_var"] = tensors["layer3.0.bn2.running_var"].astype(np.float64)
    tensors["layer3.0.bn2.running_var"][1] = value
    with pytest.raises(UserError, match=r"layer3\.0\.bn2\.running_var"):
        assign(tiny(), tensors)


def test_a_refused_checkpoint_leaves_the_model_as_it_was():
    model = tiny()
    before = to_torchvision(model)
    with pytest.raises(Misfit):
        assign(model, to_torchvision(tiny(num_classes=7, rngs=nnx.Rngs(1))))
    assert all(np.array_equal(before[key], tensor) for key, tensor in to_torchvision(model).items())


def test_pytorchs_count_of_batches_is_kept():
    tensors = to_torchvision(tiny())
    tensors["layer4.1.bn2.num_batches_tracked"][...] = 12_345
    model = nnx.eval_shape(tiny)
    assign(model, tensors)
    assert to_torchvision(model)["layer4.1.bn2.num_batches_tracked"] == 12_345


def test_a_fresh_head_is_kept_and_everything_else_is_loaded():
    source, model = tiny(num_classes=7, rngs=nnx.Rngs(1)), tiny()
    before, tensors = to_torchvision(model), to_torchvision(source)
    assign(model, tensors, head="fresh")
    for key, tensor in to_torchvision(model).items():
        np.testing.assert_array_equal(tensor, (before if key.startswith("fc.") else tensors)[key])


def test_half_precision_weights_become_float32():
    halves = {
        key: tensor.astype(jnp.bfloat16) if tensor.dtype == np.float32 else tensor
        for key, tensor in to_torchvision(tiny()).items()
    }
    model = nnx.eval_shape(tiny)
    assign(model, halves)
    assert model.conv1.kernel[...].dtype == jnp.float32
    np.testing.assert_array_equal(to_torchvision(model)["fc.weight"], halves["fc.weight"].astype(np.float32))


def test_the_shapes_are_known_without_weights():
    expected = {key: tensor.shape for key, tensor in to_torchvision(tiny()).items() if "num_batches" not in key}
    assert torchvision_shapes(nnx.eval_shape(tiny)) == expected


def test_a_nested_dictionary_of_a_state_gives_the_same_tensors():
    model = tiny()
    expected = to_torchvision(nnx.state(model, nnx.Param))
    got = to_torchvision(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert got.keys() == expected.keys() and all(np.array_equal(got[key], expected[key]) for key in got)
