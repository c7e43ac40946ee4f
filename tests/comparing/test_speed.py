"""Which count of the work predicts the speed."""

import pytest
from made_up import comparison

from resnet_jax.comparing.speed import prediction_of, speed_sentences, speeds_of

NETWORKS = comparison(targets=("v5e:1",))["networks"]


def test_there_is_a_speed_for_the_forward_pass_here_and_for_each_target():
    speeds = speeds_of(NETWORKS)
    assert list(speeds) == ["forward pass, measured here", "training on v5e:1, at most"]
    assert speeds["training on v5e:1, at most"]["resnet18"] == NETWORKS[0]["ceilings"]["v5e:1"]["images_per_second"]


def test_a_speed_in_inverse_proportion_to_the_count_is_predicted_perfectly():
    speeds = {network["arch"]: 1e12 / network["activations"] for network in NETWORKS}
    assert prediction_of(NETWORKS, speeds, "activations") == pytest.approx(-1)
    assert prediction_of(NETWORKS, speeds, "multiply_adds") > -0.5


def test_three_networks_predict_nothing():
    speeds = {network["arch"]: 1.0 + number for number, network in enumerate(NETWORKS[:3])}
    assert prediction_of(NETWORKS, speeds, "activations") is None


def test_networks_of_the_same_size_predict_nothing():
    speeds = {str(number): 1.0 + number for number in range(5)}
    networks = [{"arch": name, "activations": 1000} for name in speeds]
    assert prediction_of(networks, speeds, "activations") is None


def test_the_sentences_name_the_count_that_predicts_better():
    example, here, target = speed_sentences(NETWORKS)
    assert "resnet18 takes 1.81 billion multiply-adds and 2.48 million activations" in example
    assert "8.4 times as many multiply-adds, but 0.56 times as many activations" in example
    assert here.endswith("So here multiply-adds predict it better.")
    assert target.endswith("So here activations predict it better.")


def test_an_empty_ceiling_is_left_out():
    assert speeds_of([{"arch": "vgg16_bn", "ceilings": {"v5e:1": {}}}]) == {}
