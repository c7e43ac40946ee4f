"""`resnet-jax show`: the curves, figures and differences of several runs, in the terminal and as a picture."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from resnet_jax.commands.tables import fitting_tables
from resnet_jax.commands.usage import File, Runs
from resnet_jax.config import differences
from resnet_jax.errors import UsageError, printable
from resnet_jax.runs.bucket import is_url
from resnet_jax.runs.fetching import fetched
from resnet_jax.runs.reading import ShownRun, figures_of, read_run
from resnet_jax.runs.terminal import plot_curves


def show(runs: Runs, *, out: File = Path("runs.png")) -> None:
    """Show the curves, figures and differences of runs, including runs that are still training.

    Runs that ended before their first step are named and left out.


    Example: resnet-jax show runs/digits-* --out digits.png

    Args:
        runs: Run folders, also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER; the data sets may differ.
        out: File of the picture, which ends in .png, .pdf or .svg.

    Raises:
        UsageError: no run is named, or the ending of `out` is unknown.
        UserError: a folder does not hold a run, its files are damaged, or the picture can't be written.
    """
    from resnet_jax.runs.comparison import draw_comparison

    if not runs:
        raise UsageError("RUN: got none, expected one or more run folders, as in: resnet-jax show runs/*")
    shown: list[ShownRun] = []
    empty: list[ShownRun] = []
    for path in runs:
        run = _read(path, len(shown), _name(path, runs))
        (empty if run.empty else shown).append(run)
    console = Console(highlight=False)
    if empty:
        names = ", ".join(run.name for run in empty)
        console.print(Text(f"left out, as they ended before their first step: {names}"), soft_wrap=True)
    if not shown:
        return
    draw_comparison(shown, out)
    console.print(plot_curves(shown, console.width))
    for renderable in (*_tables(shown, console), *_seeds(shown), *_differences(shown)):
        console.print(renderable)
    console.print(Text(f"Picture: {printable(str(out))}"), soft_wrap=True)


def _read(path: Path, number: int, name: str) -> ShownRun:
    if not is_url(path):
        return read_run(path, number, name)
    with fetched(path, weights=False) as copy:
        return read_run(copy, number, name)


def _name(path: Path, runs: Sequence[Path]) -> str:
    return path.name if [other.name for other in runs].count(path.name) == 1 and path.name else str(path)


def _tables(runs: Sequence[ShownRun], console: Console) -> list[Table]:
    """Return the figures of all runs, in as many tables as the width requires."""
    names = [Text.assemble((run.letter, f"bold {run.color}"), f" {run.name}") for run in runs]
    return fitting_tables("run", names, [figures_of(run) for run in runs], console, ("data set", "model", "state"))


def _seeds(runs: Sequence[ShownRun]) -> Iterator[Text]:
    """Yield the mean and standard deviation of finished runs that differ only in the seed."""
    groups: dict[str, dict[int, ShownRun]] = {}
    for run in runs:
        if run.summary:
            train = run.config["train"]
            others = json.dumps(run.config | {"train": train | {"seed": None}}, sort_keys=True)
            groups.setdefault(others, {})[train["seed"]] = run
    for group in groups.values():
        if len(group) > 1:
            accuracies = [run.summary["test_accuracy"] for run in group.values() if run.summary]
            yield Text(
                f"{' '.join(run.letter for run in group.values())} differ only in the seed: test accuracy "
                f"{mean(accuracies):.2%}, standard deviation {100 * stdev(accuracies):.2f} points, n = {len(group)}"
            )


def _differences(runs: Sequence[ShownRun]) -> Iterator[RenderableType]:
    """Yield a table of the fields in which the configurations differ, with the runs of each value."""
    changes = {change.split(":")[0] for run in runs for change in differences(runs[0].config, run.config)}
    if not changes:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("differs", no_wrap=True)
    table.add_column("value (runs)")
    for field in sorted(changes):
        section, key = field.split(".")
        letters: dict[str, str] = {}
        for run in runs:
            value = printable(str(run.config.get(section, {}).get(key, "absent")))
            letters[value] = f"{letters[value]} {run.letter}" if value in letters else run.letter
        table.add_row(field, Text(",  ".join(f"{value} ({of})" for value, of in letters.items())))
    yield table
