"""`resnet-jax compare`: its options, and whole comparisons of tiny networks by real processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from rich.console import Console

from resnet_jax.commands.compare import Arguments, compare, parse_archs, parse_budget
from resnet_jax.comparing.comparison import Asked, _epochs, claim
from resnet_jax.comparing.comparison import compare as compare_networks
from resnet_jax.comparing.measuring import measure_network
from resnet_jax.comparing.settings import Settings, published_source, trained_settings
from resnet_jax.config import Config, ModelConfig
from resnet_jax.errors import UsageError
from resnet_jax.models.registry import REGISTRY
from resnet_jax.models.sets import SETS
from resnet_jax.runs.folder import write_json
from resnet_jax.runs.opening import open_workdir

SETTINGS = Settings(image_size=32, classes=10, batch_size=16, repeats=1, model=ModelConfig(dtype="float32"))


@pytest.mark.parametrize(("text", "seconds"), [("600s", 600), ("10m", 600), ("1.5h", 5400), ("90", 90), (None, None)])
def test_a_budget_is_a_number_with_a_unit_of_time(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0s", "-5m", "10 days", "nan", "1e9"])
def test_another_budget_is_an_error(text):
    with pytest.raises(UsageError, match="--budget"):
        parse_budget(text)


def test_networks_are_compared_once_and_in_the_order_of_the_command():
    assert parse_archs(Arguments(archs="vgg11_bn,resnet18,vgg11_bn")) == ("vgg11_bn", "resnet18")


def test_without_names_the_networks_are_those_of_the_set():
    assert parse_archs(Arguments(set="classic")) == SETS["classic"]


@pytest.mark.parametrize("archs", ["resnet17", "", "resnet18,,alexnet", "resnet18, alexnet"])
def test_an_unknown_network_is_an_error_that_lists_the_known_ones(archs):
    with pytest.raises(UsageError, match="resnet18, resnet34"):
        parse_archs(Arguments(archs=archs))


@pytest.mark.parametrize("name", SETS)
def test_a_set_has_networks_of_the_registry_and_resnet18(name):
    assert set(SETS[name]) <= REGISTRY.keys()
    assert "resnet18" in SETS[name]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--budget", "10m"], "--budget"),
        (["--seeds", "3"], "--seeds"),
        (["--pretrained"], "--pretrained"),
        (["--data.val-fraction", "0.1"], "--data.val-fraction"),
    ],
)
def test_an_option_about_training_without_a_recipe_is_an_error(words, named):
    with pytest.raises(UsageError, match=rf"^{named}.*--train"):
        compare(words)


def test_a_recipe_that_does_not_exist_is_named_by_its_option():
    with pytest.raises(UsageError, match=r"^--train: .*nothing\.py"):
        compare(["--train", "nothing.py"])


def test_a_comparison_is_kept_on_a_disk():
    with pytest.raises(UsageError, match=r"--workdir: got s3:.*a disk"):
        compare(["--archs", "resnet18", "--workdir", "s3://bucket/folder"])


@pytest.mark.slow
def test_a_network_that_cannot_take_the_images_is_an_error_that_names_both():
    settings = replace(SETTINGS, image_size=8, model=replace(SETTINGS.model, stem="imagenet"))
    with pytest.raises(UsageError, match=r"8x8 pixels.*squeezenet1_1"):
        measure_network(settings, "squeezenet1_1", print)


def test_a_network_that_does_not_exist_in_the_width_is_an_error():
    with pytest.raises(UsageError, match=r"--model\.width.*alexnet"):
        measure_network(replace(SETTINGS, model=replace(SETTINGS.model, width=16)), "alexnet", print)


def test_a_folder_is_not_continued_with_other_settings(tmp_path):
    claim(tmp_path, SETTINGS)
    claim(tmp_path, SETTINGS)
    with pytest.raises(UsageError, match=r"image_size: 32 -> 64.*--workdir"):
        claim(tmp_path, replace(SETTINGS, image_size=64))


def test_each_network_starts_from_its_own_published_weights():
    assert published_source("vgg11_bn") == "torchvision/vgg11_bn.IMAGENET1K_V1"
    with pytest.raises(UsageError, match="preact_resnet18"):
        published_source("preact_resnet18")


def test_weights_of_one_network_are_no_start_for_several():
    with pytest.raises(UsageError, match="--pretrained"):
        trained_settings(Config(model=ModelConfig(pretrained="best.pth")), 1, None, pretrained=False)


def test_seeds_follow_the_recipes_seed():
    settings = replace(SETTINGS, recipe=Config())
    assert [settings.run("resnet34", seed, 7).train.seed for seed in range(3)] == [0, 1, 2]


def test_a_budget_keeps_the_epochs_of_a_run_that_has_begun(tmp_path):
    settings = replace(SETTINGS, recipe=Config(), budget_seconds=100.0)
    network, asked = {"arch": "resnet18", "train_images_per_second": 500.0}, Asked(("resnet18",), train_images=10_000)
    assert _epochs(settings, asked, network, tmp_path) == 5
    run = tmp_path / "runs" / "resnet18-seed0"
    with open_workdir(run, settings.run("resnet18", 0, 5)):
        write_json(run / "summary.json", {})
    assert _epochs(settings, asked, network | {"train_images_per_second": 900.0}, tmp_path) == 5


def test_ceilings_of_another_network_than_the_compared_one_are_refused(tmp_path):
    settings = replace(SETTINGS, model=replace(SETTINGS.model, width=16))
    with pytest.raises(UsageError, match=r"--target.*width 16"):
        next(compare_networks(settings, Asked(("resnet18",), targets=("h100",)), tmp_path, Console(quiet=True)))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return a function that starts the comparison of two tiny networks in a folder, as a process of its own."""
    env = os.environ | {"TFDS_DATA_DIR": str(tmp_path_factory.mktemp("data"))}

    def start(workdir, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "resnet_jax", "compare", "--archs", "resnet18,resnet34", "--repeats", "1"]
        command += ["--train", "configs/digits.py", "--model.width", "4", "--train.epochs", "2", "--seeds", "2"]
        command += ["--workdir", str(workdir), *words]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """Return the folder of a complete comparison, and what its process printed."""
    workdir = tmp_path_factory.mktemp("whole")
    with digits(workdir, "--json") as process:
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    return workdir, out


def accuracies(workdir) -> dict[str, list[float]]:
    networks = json.loads((workdir / "comparison.json").read_text())["networks"]
    return {network["arch"]: [run["accuracy"] for run in network["trained"]["runs"]] for network in networks}


@pytest.mark.slow
def test_a_comparison_trains_each_network_with_each_seed(whole):
    workdir, out = whole
    assert json.loads(out) == json.loads((workdir / "comparison.json").read_text())
    assert {arch: len(runs) for arch, runs in accuracies(workdir).items()} == {"resnet18": 2, "resnet34": 2}


@pytest.mark.slow
def test_a_comparison_leaves_a_page_and_a_table(whole):
    workdir, _ = whole
    assert "resnet34" in (workdir / "compare.html").read_text()
    with (workdir / "comparison.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["resnet18", "resnet34"]


@pytest.mark.slow
def test_a_comparison_killed_in_a_training_run_gives_the_same_accuracies_when_repeated(whole, digits, tmp_path):
    with digits(tmp_path) as process:
        second = tmp_path / "runs" / "resnet34-seed0" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (second.exists() and second.stat().st_size):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.communicate()
    measured = (tmp_path / "measured" / "resnet18.json").read_bytes()
    with digits(tmp_path) as process:
        _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert accuracies(tmp_path) == accuracies(whole[0])
    assert (tmp_path / "measured" / "resnet18.json").read_bytes() == measured


@pytest.mark.slow
def test_a_comparison_stopped_by_ctrl_c_says_how_it_continues(digits, tmp_path):
    with digits(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "parameters," in line:  # the first network is being trained
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"--workdir {tmp_path}\n" in err
    assert "Traceback" not in err
