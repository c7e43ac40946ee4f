"""Tables in the terminal, in as many parts as its width requires."""

from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def fitting_tables(
    first: str, names: Sequence[Text], rows: Sequence[dict[str, str]], console: Console, left: Collection[str] = ()
) -> list[Table]:
    """Return tables that fit the console: each starts with the names and has some of the other columns.

    Args:
        first: heading of the names.
        names: of the rows.
        rows: texts by heading; a column without any text is left out.
        console: where the tables will be printed.
        left: headings of the columns that are aligned to the left and may be wrapped.
    """

    def table(columns: Sequence[str]) -> Table:
        result = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        result.add_column(first, overflow="fold", max_width=console.width // 3)
        for column in columns:
            result.add_column(column, justify="left" if column in left else "right", no_wrap=column not in left)
        for name, row in zip(names, rows, strict=True):
            result.add_row(name, *(row[column] for column in columns))
        return result

    groups: list[list[str]] = [[]]
    unlimited = console.options.update(max_width=10_000)
    for column in (column for column in rows[0] if any(row[column] for row in rows)):
        width = console.measure(table([*groups[-1], column]), options=unlimited).maximum
        if width > console.width and groups[-1]:
            groups.append([])
        groups[-1].append(column)
    return [table(columns) for columns in groups]
