"""Text files with checksums: which change of a file is noticed, and what a kill may leave."""

import random
from pathlib import Path

import pytest

from resnet_jax.checked_text import NAME, GrowingText, read_text, write_text


@pytest.fixture
def noticed(caplog):
    """Return a function that reads a file and tells whether that was a warning which names the file."""

    def read(path: Path, **options) -> bool:
        caplog.clear()
        read_text(path, **options)
        assert all(str(path) in message for message in caplog.messages)
        return bool(caplog.messages)

    return read


@pytest.fixture
def lines(tmp_path):
    """Return a file of three lines, the last two of them added."""
    path = tmp_path / "lines.jsonl"
    text = GrowingText(path, "one\n")
    text.add("two")
    text.add("three")
    text.close()
    return path


def test_every_flipped_bit_is_noticed_or_makes_the_file_no_text(lines, noticed):
    content = lines.read_bytes()
    assert content == b"one\ntwo\nthree\n" and not noticed(lines, growing=True)
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        lines.write_bytes(flipped)
        try:
            assert noticed(lines, growing=True), bytes(flipped)
        except UnicodeDecodeError:
            assert place % 8 == 7


def test_a_last_line_that_a_kill_has_cut_short_is_left_out_without_a_warning(lines, noticed):
    content = lines.read_bytes()
    for length in range(len(b"one\ntwo\n"), len(content)):
        lines.write_bytes(content[:length])
        assert not noticed(lines, growing=True) and read_text(lines, growing=True) == "one\ntwo\n"


def test_more_than_a_line_cut_off_is_noticed(lines, noticed):
    lines.write_bytes(b"one\n")
    assert noticed(lines, growing=True)


def test_a_kill_between_checksum_and_file_leaves_the_old_file_without_a_warning(tmp_path, noticed, monkeypatch):
    path = tmp_path / "file.json"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: None)  # killed here
        write_text(path, "newer")
    assert path.read_text() == "old" and not noticed(path)
    write_text(path, "new")
    assert read_text(path) == "new" and not noticed(path)


def test_a_flipped_bit_of_the_checksums_is_noticed_or_harmless(tmp_path, noticed):
    for name in ("a.json", "b.json"):
        write_text(tmp_path / name, "text")
    content, draw = (tmp_path / NAME).read_bytes(), random.Random(0)
    for _ in range(100):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / NAME).write_bytes(flipped)
        for name in ("a.json", "b.json"):
            noticed(tmp_path / name)
            assert read_text(tmp_path / name) == "text"


def test_a_file_of_an_older_version_is_read_without_a_warning(tmp_path, noticed):
    (tmp_path / "old.json").write_text("old")
    assert not noticed(tmp_path / "old.json")
    write_text(tmp_path / "new.json", "new")
    assert not noticed(tmp_path / "old.json")
