"""The page of a comparison, as text; `test_browser.py` opens it."""

import re

import pytest
from made_up import COUNTS, comparison, network

from resnet_jax.comparing.page import groups_of, write_page
from resnet_jax.errors import UserError


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> str:
    return page_of(comparison(), tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    return page_of(comparison(seeds=3), tmp_path_factory.mktemp("trained"))


def page_of(comparison, tmp_path) -> str:
    write_page(comparison, tmp_path / "compare.html")
    return (tmp_path / "compare.html").read_text()


def test_all_networks_with_ceilings_make_a_page_below_a_megabyte(tmp_path):
    page = page_of(comparison(tuple(COUNTS), seeds=2, targets=("v5e:1",)), tmp_path)
    assert len(page.encode()) < 1e6


def test_nothing_is_loaded_from_elsewhere(trained):
    assert re.findall(r'(?:src|href)="(?!#)([^"]*)"', re.sub(r'<a href="[^"]*"', "", trained)) == ["data:,"]
    assert not re.search(r"@import|url\((?!#)", trained)


def test_parts_of_all_plots_have_different_names(trained):
    names = re.findall(r' id="([^"]+)"', trained)
    assert len(names) == len(set(names)) > 10


def test_texts_from_outside_are_shown_as_they_are(tmp_path):
    made_up = comparison(("resnet18",), seeds=2)
    made_up["settings"]["dataset"] = "<script>alert(1)</script>"
    made_up["command"] = "resnet-jax compare --train 'a&b.py'"
    page = page_of(made_up, tmp_path)
    assert page.count("<script>") == 1
    assert "a&amp;b.py" in page


def test_trained_measured_and_published_figures_are_in_groups_of_their_own():
    titles = [title for title, _ in groups_of(comparison(seeds=2, targets=("h100",))["networks"])]
    assert titles == [
        *("Trained here", "Counted and measured here", "Computed ceilings"),
        *("Published, V1 weights", "Published, V2 weights"),
    ]


def test_published_figures_come_first_where_nothing_was_trained():
    assert groups_of(comparison()["networks"])[0][0] == "Published, V1 weights"


def test_published_accuracies_are_called_published(untrained):
    assert "The accuracies are published ones" in untrained
    assert "Learning curves" not in untrained


def test_trained_accuracies_have_learning_curves(trained):
    assert "trained here with configs/digits.py, the mean over 3 seeds" in trained
    assert "Learning curves" in trained


@pytest.mark.parametrize("measured", [0, 1, 2])
def test_an_unfinished_comparison_has_a_page(measured, tmp_path):
    started = [{"arch": arch, "published": [], "ceilings": {"h100": {}}, "trained": None} for arch in COUNTS]
    finished = [network(arch, 1) for arch in tuple(COUNTS)[:measured]]
    page = page_of(comparison() | {"networks": [*finished, *started[measured:]]}, tmp_path)
    assert page.count('<th scope="row"') == len(COUNTS)


def test_a_run_without_a_finished_epoch_has_no_curve(tmp_path):
    made_up = comparison(("resnet18",), seeds=1)
    made_up["networks"][0]["trained"]["runs"][0]["curve"] = []
    assert "Learning curves" in page_of(made_up, tmp_path)


def test_remarks_are_shown(tmp_path):
    made_up = comparison(("resnet18",))
    made_up["networks"][0]["remark"] = "memory does not suffice for training in batches of 2"
    assert "resnet18: memory does not suffice" in page_of(made_up, tmp_path)


def test_a_network_that_guesses_is_not_drawn_on_the_pareto_front(tmp_path):
    made_up = comparison(("resnet18", "squeezenet1_1"), seeds=1)
    made_up["networks"][1]["trained"]["accuracy_mean"] = 0.1
    page = page_of(made_up, tmp_path)
    plots = page[page.index("Accuracy against latency") : page.index("Learning curves")]
    assert "resnet18" in plots and "squeezenet1_1" not in plots
    assert "Left out, since they are about as good as guessing: squeezenet1_1." in page


@pytest.mark.parametrize("accuracy, is_remarked", [(0.1, True), (0.13, False)])
def test_a_network_that_guesses_among_ten_classes_is_remarked(tmp_path, accuracy, is_remarked):
    made_up = comparison(("resnet18",), seeds=1)
    made_up["settings"]["classes"] = 10
    made_up["networks"][0]["trained"]["accuracy_mean"] = accuracy
    assert ("about as good as guessing" in page_of(made_up, tmp_path)) == is_remarked


def test_a_folder_that_does_not_exist_is_an_error_of_the_user(tmp_path):
    with pytest.raises(UserError, match="--workdir"):
        write_page(comparison(("resnet18",)), tmp_path / "missing" / "compare.html")
