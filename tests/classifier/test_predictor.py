"""The predictor is compiled once for each of a few batch sizes."""

import inspect

import jax
import numpy as np
import pytest
from flax import nnx

from resnet_jax.classifier.class_names import match_classes
from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.errors import UserError
from resnet_jax.models.network import Network

NETWORK = Network("resnet18", num_classes=3, stem="cifar", width=4)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    model = nnx.jit(lambda: NETWORK.build(rngs=nnx.Rngs(0)))()
    return Classifier(model, NETWORK, ("cat", "dog", "emu"), Preprocessing(image_size=8, resize=8), {})


@pytest.fixture(scope="module")
def predictor(classifier) -> Predictor:
    return Predictor(classifier, batch_size=4, explain=True)


def test_predictions_equal_those_of_the_model(classifier, predictor):
    expected = nnx.jit(lambda model, images: model(images))(
        classifier.model, classifier.preprocessing.normalize(IMAGES[:3])
    )
    np.testing.assert_allclose(predictor(IMAGES[:3]).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_images_of_an_unknown_range_are_not_normalized(kind):
    with pytest.raises(TypeError, match=rf"{kind.__name__}.*uint8"):
        inspect.unwrap(Preprocessing.normalize)(Preprocessing(), np.zeros((1, 8, 8, 3), kind))  # without type checks


def test_probabilities_sum_to_one(predictor):
    np.testing.assert_allclose(predictor(IMAGES[:4]).probabilities.sum(1), 1, rtol=1e-6)


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch(predictor):
    together = predictor(IMAGES[:4]).logits
    alone = np.concatenate([predictor(IMAGES[index : index + 1]).logits for index in range(4)])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_a_smaller_batch_uses_a_program_that_is_compiled_already(classifier):
    predictor = Predictor(classifier, batch_size=4)
    predictor(IMAGES[:4])
    compiled = predictor._forward._cache_size()
    for count in (1, 2, 3):
        assert len(predictor(IMAGES[:count]).logits) == count
    assert predictor._forward._cache_size() == compiled == 1


def test_heat_maps_are_computed_only_on_request(classifier, predictor):
    heat = predictor(IMAGES[:2]).heat
    assert heat is not None and heat.shape[0] == 2
    assert Predictor(classifier, batch_size=4)(IMAGES[:2]).heat is None


def test_classes_are_matched_by_name_in_any_order_and_number(classifier):
    assert match_classes(classifier, ("emu", "cat")).tolist() == [2, 0]


def test_a_class_that_the_network_does_not_know_is_named(classifier):
    with pytest.raises(UserError, match=r"cow.*dog"):
        match_classes(classifier, ("cat", "cow", "emu"))


def test_weights_without_names_are_matched_by_position():
    classifier = Classifier(NETWORK.abstract(), NETWORK, ("0", "1", "2"), Preprocessing(), {}, named=False)
    assert match_classes(classifier, ("a", "b", "c")).tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="a, b"):
        match_classes(classifier, ("a", "b"))


def test_the_devices_share_a_batch(classifier):
    assert Predictor(classifier, batch_size=4).mesh.size == min(4, jax.device_count())
