"""What a training says about its images before it starts."""

import numpy as np
import pytest
from PIL import Image

from resnet_jax.data.dataset import Dataset, Split
from resnet_jax.data.description import describe
from resnet_jax.data.memory import load
from resnet_jax.data.source import open_folder


def dataset(*counts: int, **options) -> Dataset:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    train, test = (Split(np.zeros((len(each), 1, 1, 3), np.uint8), each) for each in (labels, labels[:3]))
    return Dataset("photos", tuple(f"class{number}" for number in range(len(counts))), train, test, **options)


def test_each_class_has_its_count_and_each_split():
    (line,) = describe(dataset(1200, 340))
    assert all(fact in line for fact in ("1,540 training", "3 test", "class0 1,200", "class1 340"))


def test_of_many_classes_the_smallest_and_the_largest_are_named():
    (line,) = describe(dataset(*range(10, 60)))
    assert all(fact in line for fact in ("50", "class0 with 10", "class49 with 59")) and "class7" not in line


@pytest.mark.parametrize(("counts", "warned"), [((10, 100), False), ((10, 101), True), ((0, 5), True)])
def test_a_class_with_more_than_ten_times_the_images_of_another_is_warned_of_with_the_remedy(counts, warned):
    lines = list(describe(dataset(*counts)))
    assert len(lines) == 1 + warned
    if warned:
        assert all(fact in lines[1] for fact in ("class1", str(counts[1]), "class0", str(counts[0]), "evaluate", "add"))


def test_a_share_held_out_to_choose_the_checkpoint_is_named():
    lines = list(describe(dataset(10, 10).hold_out(0.2)))
    assert "0.2" in lines[0] and "16 training, 4 validation" in lines[1]


@pytest.mark.parametrize(
    ("folders", "remark"),
    [((".",), "fifth"), (("train", "val"), "val is the test split"), (("train", "test"), None)],
)
def test_where_the_test_images_come_from_is_said_unless_they_have_a_folder(tmp_path, monkeypatch, folders, remark):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in folders:
        for name in ("cat", "dog"):
            (tmp_path / "photos" / folder / name).mkdir(parents=True)
            for number in range(5):
                Image.new("L", (8, 8), number).save(tmp_path / "photos" / folder / name / f"{number}.png")
    *remarks, line = describe(load(open_folder(tmp_path / "photos"), None))
    assert "cat" in line and [remark in each for each in remarks] == ([] if remark is None else [True])
