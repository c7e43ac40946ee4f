"""`resnet-jax benchmark --set`: a row for each network, each measured in a process of its own."""

import io
import json
import math
import os
import signal

import pytest
from rich.console import Console

from resnet_jax.benchmarking.alone import measure_alone
from resnet_jax.benchmarking.set_report import means_of, print_headings, print_means, print_row
from resnet_jax.commands.benchmark import benchmark
from resnet_jax.errors import UserError
from resnet_jax.models.sets import SETS


def reported(say):
    say("measuring")
    return {"arch": "resnet18", "process": os.getpid()}


def refused(say):
    raise UserError("out of memory")


def killed(say):
    os.kill(os.getpid(), signal.SIGKILL)


def broken(say):
    raise ValueError("broken")


def test_a_measurement_has_a_process_of_its_own_and_reports_what_it_does():
    messages = []
    figures = measure_alone(reported, messages.append)
    assert figures["arch"] == "resnet18" and figures["process"] != os.getpid() and messages == ["measuring"]


def test_an_error_of_the_user_is_that_of_the_measurement():
    with pytest.raises(UserError, match=r"^out of memory$"):
        measure_alone(refused, print)


def test_a_process_that_the_system_ends_is_an_error_with_a_remedy():
    with pytest.raises(UserError, match=r"SIGKILL.*memory.*--batch-size"):
        measure_alone(killed, print)


def test_another_error_ends_the_command():
    with pytest.raises(RuntimeError, match="failed"):
        measure_alone(broken, print)


def test_the_family_is_torchvisions_resnets():
    assert len(SETS["family"]) == 10 and {"resnet18", "wide_resnet101_2", "resnext101_64x4d"} <= set(SETS["family"])


MEASURED = {
    **{"stem": "imagenet", "image_size": 224, "dtype": "float32", "devices": 1, "device_kind": "cpu"},
    **{"batch_size": 16, "jax_version": "0.10.2", "torch_version": "2.14.1", "torch_threads": 2},
    **{"train_images_per_second": 12.5, "torch_train_images_per_second": 10.0},
    **{"forward_images_per_second": 1234.5, "torch_forward_images_per_second": 1300.0},
}
NETWORKS = [
    MEASURED | {"arch": "resnet18", "train_ratio": 0.5, "forward_ratio": 0.9},
    {"arch": "resnet152", "failure": "out of memory: choose a smaller --batch-size"},
    MEASURED | {"arch": "resnet34", "train_ratio": 2.0, "forward_ratio": 0.4},
]


def printed(networks) -> str:
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_headings(console)
    for figures in networks:
        print_row(console, figures)
    print_means(console, networks)
    return console.file.getvalue()


def test_the_means_of_the_ratios_are_geometric_and_of_what_was_measured():
    means = means_of(NETWORKS)
    assert means["train_ratio_geometric_mean"] == pytest.approx(1)
    assert means["forward_ratio_geometric_mean"] == pytest.approx(math.sqrt(0.9 * 0.4))


def test_each_network_has_one_row_with_its_figures_or_its_reason():
    _, first, second, third, *_ = printed(NETWORKS).splitlines()
    assert first.split() == ["resnet18", "12.5", "10.0", "0.50", "1,234", "1,300", "0.90"]
    assert second.split(maxsplit=1) == ["resnet152", NETWORKS[1]["failure"]]
    assert third.startswith("resnet34 ")


def test_without_pytorch_there_are_no_ratios():
    alone = [{key: value for key, value in MEASURED.items() if "torch" not in key} | {"arch": "resnet18"}]
    assert means_of(alone) == {} and "PyTorch," not in printed(alone)


@pytest.mark.slow
def test_a_set_is_measured_network_by_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SETS, "family", ("resnet18", "resnext50_32x4d"))
    options = {"set": "family", "image_size": 8, "batch_size": 8, "repeats": 1}
    benchmark(**options, width=8, csv=tmp_path / "timm.csv", json=True)
    found = json.loads(capsys.readouterr().out)
    first, second = found["networks"]
    assert found["set"] == "family" and first["arch"] == "resnet18" and first["train_images_per_second"] > 0
    assert second["arch"] == "resnext50_32x4d" and "--width: got 8" in second["failure"]
    assert len((tmp_path / "timm.csv").read_text().splitlines()) == 2  # the header, and the network that was measured


@pytest.mark.parity
def test_the_rows_of_a_set_are_beside_pytorch(capsys, monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.setitem(SETS, "family", ("resnet18", "resnext50_32x4d"))
    benchmark(set="family", width=32, image_size=8, batch_size=8, repeats=1, against="torch")
    _, first, second, *rest = capsys.readouterr().out.splitlines()
    assert len(first.split()) == len(second.split()) == 7 and "geometric mean of 2 networks" in rest[-1]
