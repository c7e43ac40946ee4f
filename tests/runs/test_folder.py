"""Reading a run folder."""

from resnet_jax.runs.folder import read_metrics, read_summary


def test_a_folder_without_a_run_has_no_metrics_and_no_summary(tmp_path):
    assert read_metrics(tmp_path) == [] and read_summary(tmp_path) is None
