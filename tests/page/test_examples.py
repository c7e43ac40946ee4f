"""The images that the page offers."""

import pytest

from resnet_jax.errors import UserError
from resnet_jax.page.examples import read_examples


def test_the_default_is_photographs_whose_authors_are_named():
    examples = read_examples(None)
    assert list(examples.images) == ["china.jpg", "flower.jpg"] and "CC BY" in examples.credit
    assert all(content.startswith(b"\xff\xd8") for content in examples.images.values())


def test_the_first_twelve_images_of_a_folder_are_taken_in_the_order_of_their_names(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.PNG").write_bytes(bytes([number]))
    (tmp_path / "00.txt").touch()
    examples = read_examples(tmp_path)
    assert list(examples.images) == [f"{number:02}.PNG" for number in range(12)] and not examples.credit
    assert examples.images["03.PNG"] == b"\3"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"--examples: .*absent"):
        read_examples(tmp_path / "absent")
