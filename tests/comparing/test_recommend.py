"""The rules of the recommendation."""

import pytest
from made_up import comparison

from resnet_jax.comparing.recommend import recommend


def published(**networks) -> dict:
    """Return a comparison of networks by name: published V1 top-1, latency in ms and multiply-adds in billions."""
    return compared(
        [
            {
                **{"arch": arch, "parameters": 1_000_000, "multiply_adds": 1e9 * products, "trained": None},
                **{"latency_seconds": None if latency is None else latency / 1000},
                "published": [
                    {"weights": "IMAGENET1K_V2", "top1": 99.0, "top5": 99.9, "source": ""},
                    {"weights": "IMAGENET1K_V1", "top1": top1, "top5": 95.0, "source": ""},
                ],
            }
            for arch, (top1, latency, products) in networks.items()
        ]
    )


def trained(**networks) -> dict:
    """Return a comparison of networks by name: accuracy mean and deviation (shares), and latency in ms."""
    return compared(
        [
            {
                **{"arch": arch, "parameters": 1_000_000, "multiply_adds": 1e9, "latency_seconds": latency / 1000},
                **{"published": [], "trained": {"runs": [], "accuracy_mean": mean, "accuracy_std": std}},
            }
            for arch, (mean, std, latency) in networks.items()
        ]
    )


def compared(networks: list) -> dict:
    limits = {"max_latency_ms": None, "max_parameters": None, "min_accuracy": None}
    return {"networks": networks, "settings": limits}


def limited(comparison: dict, **limits) -> dict:
    return comparison | {"settings": comparison["settings"] | limits}


def test_the_cheapest_within_a_point_of_the_best_is_recommended():
    found = recommend(published(best=(75.0, 9.0, 1), near=(74.1, 3.0, 1), nearer=(74.5, 4.0, 1), far=(73.9, 1.0, 1)))
    assert found.chosen == "near"
    assert "near, 74.10%, within 1 point of the best at a third of its cost (3 against 9 ms" in found.sentences[1]


def test_the_best_is_recommended_if_nothing_near_costs_less():
    found = recommend(published(best=(75.0, 3.0, 1), near=(74.5, 4.0, 1), far=(60.0, 1.0, 1)))
    assert found.chosen == "best"
    assert found.sentences == [
        "best has the highest published ImageNet top-1 (V1 weights), 75.00%.",
        "Recommended: best. No other network within 1 point of it costs less.",
    ]


def test_without_latencies_of_all_the_cost_is_multiply_adds():
    found = recommend(published(best=(75.0, 1.0, 4), near=(74.5, None, 2)))
    assert found.chosen == "near"
    assert "at half of its cost (2 against 4 billion multiply-adds)" in found.sentences[1]


def test_of_equal_accuracies_the_cheaper_network_is_the_best():
    assert recommend(published(a=(75.0, 2.0, 1), b=(75.0, 1.0, 1))).chosen == "b"


def test_v2_weights_are_not_compared():
    networks = published(a=(75.0, 1.0, 1), b=(60.0, 1.0, 1))
    assert recommend(networks).chosen == "a"


def test_trained_accuracies_replace_published_ones():
    networks = trained(a=(0.90, None, 1.0), b=(0.95, None, 2.0))
    networks["networks"] += published(c=(99.0, 0.1, 1))["networks"]
    found = recommend(networks)
    assert found.chosen == "b"
    assert "accuracy trained here, 95.00%" in found.sentences[0]
    assert found.excluded["c"].reason == "not trained"


def test_each_limit_excludes_and_is_named():
    networks = published(a=(75.0, 9.0, 1), b=(74.0, 3.0, 1), c=(60.0, 1.0, 1))
    networks["networks"][1]["parameters"] = 5_000_001
    found = recommend(limited(networks, max_latency_ms=8.0, max_parameters=5_000_000, min_accuracy=60.0))
    assert found.chosen == "c"
    assert found.excluded == {
        "a": ("more than 8 ms for one image", "9 ms"),
        "b": ("more than 5,000,000 parameters", "5,000,001"),
    }
    assert "Left out (more than 8 ms for one image): a (9 ms)." in found.sentences


def test_an_accuracy_below_the_limit_excludes():
    found = recommend(limited(published(a=(75.0, 9.0, 1), b=(74.0, 3.0, 1)), min_accuracy=74.5))
    assert (found.chosen, found.excluded) == ("a", {"b": ("accuracy below 74.5%", "74.00%")})


def test_a_figure_at_its_limit_is_allowed():
    limits = {"max_latency_ms": 9.0, "max_parameters": 1_000_000, "min_accuracy": 75.0}
    assert recommend(limited(published(a=(75.0, 9.0, 1)), **limits)).chosen == "a"


@pytest.mark.parametrize(
    ("limit", "figure", "reason"),
    [
        ("max_latency_ms", "latency_seconds", "latency not measured"),
        ("max_parameters", "parameters", "parameters not counted"),
    ],
)
def test_a_missing_figure_excludes_where_there_is_a_limit(limit, figure, reason):
    networks = published(a=(75.0, 9.0, 1), b=(80.0, 9.0, 1))
    del networks["networks"][1][figure]
    assert recommend(networks).chosen == "b"
    assert recommend(limited(networks, **{limit: 2_000_000})).excluded == {"b": (reason, "")}


def test_nothing_within_the_limits_is_said_plainly():
    found = recommend(limited(published(a=(75.0, 9.0, 1)), max_latency_ms=1.0))
    assert found.chosen is None
    assert found.sentences[0] == "Nothing to recommend: no network has an accuracy and is within the limits."


def test_nothing_measured_is_said_plainly():
    networks = published(a=(75.0, None, 1))
    del networks["networks"][0]["multiply_adds"]
    assert recommend(networks)[:2] == (None, ["Nothing to recommend: no network was measured."])


def test_seeds_that_vary_more_than_the_networks_differ_do_not_separate_them():
    found = recommend(trained(a=(0.952, 0.001, 9.0), b=(0.950, 0.004, 3.0)))
    assert found.chosen == "b"
    assert "The seeds do not separate a and b: they differ by 0.20 points" in found.sentences[2]
    assert "0.40 points (standard deviation)" in found.sentences[2]


def test_the_best_is_also_compared_with_the_next():
    found = recommend(trained(a=(0.952, 0.001, 1.0), c=(0.945, 0.004, 3.0), b=(0.950, 0.004, 3.0)))
    assert found.chosen == "a"
    assert "The seeds do not separate a and b" in found.sentences[2]


def test_nothing_is_said_of_seeds_that_vary_less():
    assert len(recommend(trained(a=(0.955, 0.002, 9.0), b=(0.950, 0.004, 3.0))).sentences) == 2


def test_of_one_seed_it_is_said_that_chance_is_unknown():
    found = recommend(trained(a=(0.955, None, 9.0), b=(0.950, None, 3.0)))
    assert found.sentences[2] == "With one seed, it is unknown whether a and b differ by more than chance."


@pytest.mark.parametrize(("latency", "words"), [(5.0, "half"), (6.8, "two thirds"), (2.6, "a quarter"), (9.0, "90%")])
def test_the_share_of_the_cost_is_said_in_words_where_there_are_some(latency, words):
    sentence = recommend(published(a=(75.0, 10.0, 1), b=(74.5, latency, 1))).sentences[1]
    assert f"at {words} of its cost" in sentence


def test_a_comparison_that_has_just_begun_has_no_recommendation():
    networks = [{"arch": "resnet18", "published": [], "ceilings": {}, "trained": None}]
    assert recommend(comparison(("resnet18",)) | {"networks": networks}).chosen is None
