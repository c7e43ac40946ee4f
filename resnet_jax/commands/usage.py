"""How the usage and help of the commands read: names for what an argument takes, and lines that fit the terminal."""

import io
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated

import tyro

from resnet_jax.models.registry import Architecture

NARROWEST = 40  # columns, as tyro's own lines
STYLED = re.compile("[\x1b\u2500-\u257f]")  # colors, which have no width, and frames, which have the right one

Model = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
Models = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MODEL [MODEL ...]")]
Images = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="IMAGE [IMAGE ...]")]
Runs = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
Target = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
OptionalFolder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]
OptionalRecipe = Annotated[Path | None, tyro.conf.arg(metavar="RECIPE")]
OptionalNumber = Annotated[int | None, tyro.conf.arg(metavar="INT")]
AnyArchitecture = Annotated[Architecture | None, tyro.conf.arg(metavar="ARCH")]


class _Buffer(io.StringIO):
    """Keeps what is printed, and says whether standard output is a terminal, for its colors."""

    def __init__(self):
        super().__init__()
        self.isatty = sys.stdout.isatty  # type: ignore[method-assign]


@contextmanager
def fitting_help(words: Sequence[str]) -> Iterator[None]:
    """Break the long lines of the help that is printed inside, which tyro leaves to the terminal, between words.

    Args:
        words: of the command line; without -h or --help nothing is changed.
    """
    if not {"-h", "--help"} & set(words):
        yield
        return
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    printed = _Buffer()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            print(line if STYLED.search(line) else textwrap.fill(line, width, break_on_hyphens=False))
