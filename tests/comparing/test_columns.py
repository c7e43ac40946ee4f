"""The figures of a comparison as a table and as a CSV file."""

import csv
import io

import pytest

from resnet_jax.comparing.columns import columns_of, csv_of, rows_of
from resnet_jax.comparing.training import epochs_within, summarize_runs

MEASURED = {
    **{"arch": "resnet18", "parameters": 11_689_512, "multiply_adds": 1_814_073_344, "activations": 2_483_712},
    **{"latency_seconds": 0.0305, "forward_batch_size": 16, "forward_images_per_second": 61.25},
}
PUBLISHED = [{"weights": "IMAGENET1K_V1", "top1": 69.758, "top5": 89.078, "source": "https://example.org"}]
NETWORK = MEASURED | {"ceilings": {"h100": {"images_per_second": 9000.0}}, "published": PUBLISHED, "trained": None}


def run(seed: int, accuracy: float, **figures) -> dict:
    return {
        "seed": seed,
        "accuracy": accuracy,
        "calibration_error": 0.01,
        "seconds": 12.0,
        "training_seconds": 10.0,
    } | figures


def test_a_column_without_any_figure_is_left_out():
    headings = [column.heading for column in columns_of([NETWORK])]
    assert "latency, ms" in headings
    assert "test accuracy, %" not in headings


def test_published_figures_are_in_columns_of_their_own():
    networks = [NETWORK | {"trained": summarize_runs([run(0, 0.9)], MEASURED)}]
    (row,) = rows_of(networks)
    assert (row["test accuracy, %"], row["published V1 top1, %"]) == ("90.00", "69.76")


def test_the_csv_file_has_timms_names_and_units():
    (row,) = csv.DictReader(io.StringIO(csv_of([NETWORK], 224)))
    assert row["model"] == "resnet18"
    assert {key: float(row[key]) for key in ("param_count", "infer_gmacs", "infer_macts", "infer_samples_per_sec")} == {
        **{"param_count": pytest.approx(11.689512), "infer_gmacs": pytest.approx(1.814073344)},
        **{"infer_macts": pytest.approx(2.483712), "infer_samples_per_sec": 61.25},
    }


def test_a_figure_that_only_another_network_has_is_an_empty_cell():
    other = NETWORK | {"arch": "alexnet", "latency_seconds": None}
    rows = list(csv.DictReader(io.StringIO(csv_of([NETWORK, other], 224))))
    assert [row["infer_latency_ms"] for row in rows] == ["30.5", ""]


def test_runs_are_summarized_by_mean_and_sample_standard_deviation():
    summary = summarize_runs([run(0, 0.90), run(1, 0.92), run(2, 0.97)], MEASURED)
    assert summary["accuracy_mean"] == pytest.approx(0.93)
    assert summary["accuracy_std"] == pytest.approx(0.0360555)


def test_one_run_has_no_spread():
    assert summarize_runs([run(0, 0.9)], MEASURED)["accuracy_std"] is None


def test_accuracy_is_also_given_for_what_it_costs():
    summary = summarize_runs([run(0, 0.9)], MEASURED)
    assert summary["accuracy_per_training_second"] == pytest.approx(0.09)
    assert summary["accuracy_per_million_parameters"] == pytest.approx(0.9 / 11.689512)
    assert summary["accuracy_per_giga_multiply_adds"] == pytest.approx(0.9 / 1.814073344)


@pytest.mark.parametrize(("speed", "epochs"), [(1000.0, 12), (1099.0, 13), (1.0, 1)])
def test_a_budget_is_filled_with_whole_epochs_at_least_one(speed, epochs):
    assert epochs_within(600.0, speed, 50_000) == epochs
