"""What `show` prints and draws for several runs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from resnet_jax.commands.show import show
from resnet_jax.config import Config, DataConfig, ModelConfig, TrainConfig
from resnet_jax.errors import UsageError, UserError
from resnet_jax.runs.logbook import Logbook
from resnet_jax.runs.opening import open_workdir
from resnet_jax.runs.reading import COLORS

SUMMARY = {
    "test_loss": 0.25,
    "test_accuracy_tta_flip": 0.925,
    "dataset": "digits",
    "parameters": 701_466,
    "seconds": 61.4,
    "images_per_second": 550.2,
}


def make_run(
    folder: Path, *, epochs: int = 4, of: int = 4, accuracy: float | None = 0.9, split: str = "test", **config
) -> Path:
    """Write a run that has done `epochs` of `of` epochs of 10 steps; it has finished unless `accuracy` is None."""
    train = dataclasses.replace(config.pop("train", TrainConfig()), epochs=of)
    data = config.pop("data", DataConfig(val_fraction=0.1 if split == "val" else None))
    run = Config(train=train, data=data, **config)
    with open_workdir(folder, run), Logbook(folder, run, step=0, wandb_project=None) as logbook:
        for epoch in range(epochs):
            figures = {"step": 10 * (epoch + 1), "epoch": epoch, "loss": 1 / (epoch + 1)}
            logbook.write(**figures, split="train", accuracy=0.5 + 0.1 * epoch, images_per_second=321.0)
            logbook.write(**figures, split=split, accuracy=0.4 + 0.1 * epoch)
        if accuracy is not None:
            logbook.finish(SUMMARY | {"test_accuracy": accuracy})
    return folder


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    """Return a function that shows runs in a terminal of some width and returns what is printed."""

    def run(*runs: Path, width: int = 150) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        show(runs, out=tmp_path / "runs.png")
        return capsys.readouterr().out

    return run


def row(text: str, name: str) -> list[str]:
    """Return the cells of a run's row in the table."""
    return next(re.split(r"  +", line.strip()) for line in text.splitlines() if re.match(rf" \w {name}\b", line))


def test_the_table_has_the_figures_of_the_summary(tmp_path, printed):
    text = printed(make_run(tmp_path / "one", model=ModelConfig(width=16)))
    figures = ["90.00%", "92.50% (flip)", "0.2500", "701,466", "61", "550"]
    assert row(text, "one") == ["a one", "digits", "resnet18/16", "4/4", "complete", *figures]


def test_a_run_that_stopped_is_shown_as_far_as_it_got(tmp_path, printed):
    text = printed(make_run(tmp_path / "one", epochs=2, accuracy=None))
    assert row(text, "one")[3:] == ["2/4", "stopped at step 20 of 40", "50.00%", "0.5000", "321"]


def test_a_checkpoint_within_an_epoch_counts_as_the_step(tmp_path, printed):
    run = make_run(tmp_path / "one", epochs=2, accuracy=None)
    (run / "checkpoints" / "23").mkdir(parents=True)
    assert "stopped at step 23 of 40" in printed(run)


def test_a_run_that_is_locked_is_running(tmp_path, printed):
    run = make_run(tmp_path / "one", epochs=2, accuracy=None)
    with open_workdir(run, Config(train=TrainConfig(epochs=4))):
        assert "running, at step 20 of 40" in printed(run)


def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path, printed):
    run = make_run(tmp_path / "one", epochs=2, accuracy=None)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "epo')
    assert "stopped at step 20 of 40" in printed(run)


def test_a_run_in_its_first_epoch_has_no_figures_yet(tmp_path, printed):
    run = make_run(tmp_path / "one", epochs=0, accuracy=None)
    with open_workdir(run, Config(train=TrainConfig(epochs=4))):
        text = printed(run)
    assert "no run has been evaluated yet" in text and row(text, "one")[3:] == ["0/4", "running, at step 0 of ?"]


def test_a_run_that_ended_before_its_first_step_is_named_and_left_out(tmp_path, printed):
    failed, run = make_run(tmp_path / "failed", epochs=0, accuracy=None), make_run(tmp_path / "one")
    text = printed(failed, run)
    assert "first step: failed" in text and row(text, "one")[0] == "a one" and not re.search(r"\w failed  ", text)
    assert "first step: failed" in printed(failed)


def test_an_accuracy_on_held_out_images_is_marked(tmp_path, printed):
    assert "50.00% (val)" in row(printed(make_run(tmp_path / "one", epochs=2, accuracy=None, split="val")), "one")


def test_the_evaluated_step_is_named_if_it_is_not_the_last(tmp_path, printed):
    run = make_run(tmp_path / "one", split="val")
    for step, state in ((40, "complete"), (20, "complete, best at step 20")):
        (run / "summary.json").write_text(json.dumps(SUMMARY | {"test_accuracy": 0.9, "evaluated_step": step}))
        assert row(printed(run), "one")[4] == state


def test_fields_that_an_older_version_did_not_have_are_the_defaults(tmp_path, printed):
    run, other = (make_run(tmp_path / name) for name in ("old", "new"))
    config = json.loads((run / "config.json").read_text())
    del config["data"]["val_fraction"], config["checkpoint"]
    (run / "config.json").write_text(json.dumps(config))
    assert "differs" not in printed(run, other)


def test_runs_that_differ_only_in_the_seed_give_mean_and_standard_deviation(tmp_path, printed):
    runs = [
        make_run(tmp_path / f"s{seed}", accuracy=accuracy, train=TrainConfig(seed=seed))
        for seed, accuracy in enumerate((0.90, 0.92, 0.94))
    ]
    other = make_run(tmp_path / "wide", model=ModelConfig(width=128))
    expected = "a b c differ only in the seed: test accuracy 92.00%, standard deviation 2.00 points, n = 3"
    assert expected in printed(*runs, other)


def test_the_fields_that_differ_are_named_with_their_values(tmp_path, printed):
    runs = [make_run(tmp_path / f"w{width}", model=ModelConfig(width=width)) for width in (16, 32)]
    text = printed(*runs, make_run(tmp_path / "again", model=ModelConfig(width=16)))
    assert re.search(r"model\.width +16 \(a c\), +32 \(b\)", text) and text.count("(a c)") == 1


@pytest.mark.parametrize("width", [60, 100])
def test_nothing_is_cut_or_wider_than_the_terminal(tmp_path, printed, width):
    names = ("digits-20260101-101500-with-a-long-name", *map(str, range(11)))
    text = printed(*(make_run(tmp_path / name) for name in names), width=width)
    lines = [line for line in text.splitlines() if not line.startswith("Picture")]
    assert max(map(len, lines)) <= width and "…" not in text and "images/s" in text


def test_the_plot_rises_with_the_accuracy(tmp_path, printed):
    plot = printed(make_run(tmp_path / "one")).split("└")[0].splitlines()[1:]
    drawn = [(line.index(dot), number) for number, line in enumerate(plot) for dot in line if dot > "\u2800"]
    assert min(drawn)[1] > max(drawn)[1]  # rows count from the top


def test_the_ticks_of_the_plot_are_round_percentages_in_order(tmp_path, printed):
    ticks = re.findall(r"^ *(\S+)% ┤", printed(make_run(tmp_path / "one")), re.MULTILINE)
    assert ticks == ["70", "60", "50", "40"]


def test_runs_that_end_together_have_their_letters_beside_each_other(tmp_path, printed):
    plot = printed(*(make_run(tmp_path / name) for name in ("one", "two", "three"))).split("└")[0]
    assert sum(line.endswith(" abc") for line in plot.splitlines()) == 1


@pytest.mark.parametrize("count", [1, 12])
def test_each_run_has_its_own_color_in_the_picture(tmp_path, printed, count):
    printed(*(make_run(tmp_path / f"run{number}", accuracy=0.9) for number in range(count)))
    with Image.open(tmp_path / "runs.png") as image:
        colors = {color for _, color in image.convert("RGB").getcolors(2**24)}
    assert colors >= {tuple(bytes.fromhex(color[1:])) for color in COLORS[:count]}


def test_runs_with_the_same_name_are_shown_by_their_paths(tmp_path, printed):
    text = printed(make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run"), width=400)
    assert f"a {tmp_path}/a/run" in text and f"b {tmp_path}/b/run" in text


def test_a_name_reaches_the_terminal_without_control_characters(tmp_path, printed):
    run = make_run(tmp_path / "\x1b[2Jred")
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"test_accuracy": 0.9, "dataset": "\x07bell"}))
    text = printed(run, make_run(tmp_path / "other", data=DataConfig(source="folder", dir=Path("\x1b[31m"))))
    assert not re.search(r"[^\n -\U0010ffff]", text) and r"\x1b[2Jred" in text and r"\x07bell" in text


def test_a_folder_without_a_run_is_a_user_error_that_names_the_runs_inside(tmp_path):
    run = make_run(tmp_path / "runs" / "one")
    with pytest.raises(UserError, match=f"{tmp_path}/runs is not a run folder.*{run}"):
        show((tmp_path / "runs",), out=tmp_path / "runs.png")
    with pytest.raises(UserError, match=r"nowhere is not a run folder.*config\.json"):
        show((tmp_path / "nowhere",), out=tmp_path / "runs.png")


def test_a_damaged_file_is_a_user_error(tmp_path):
    run = make_run(tmp_path / "one")
    (run / "summary.json").write_text(json.dumps(SUMMARY)[:-5])
    with pytest.raises(UserError, match=f"{run}/summary.json"):
        show((run,), out=tmp_path / "runs.png")


def test_a_picture_that_cannot_be_written_is_a_user_error(tmp_path):
    run = make_run(tmp_path / "one")
    with pytest.raises(UsageError, match=r"--out: got .*runs\.abc, expected .*\.png"):
        show((run,), out=tmp_path / "runs.abc")
    with pytest.raises(UserError, match=r"missing/runs\.png .*--out"):
        show((run,), out=tmp_path / "missing" / "runs.png")


def test_without_any_run_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="RUN: got none"):
        show((), out=tmp_path / "runs.png")
