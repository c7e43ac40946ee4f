"""`resnet-jax doctor`: what this machine and its installation offer, what is wrong with them, and the remedy."""

import os
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from resnet_jax.commands.usage import OptionalFolder
from resnet_jax.errors import printable

COLORS = {"ok": "green", "note": "yellow", "problem": "bold red"}


def doctor(*, data_dir: OptionalFolder = None) -> None:
    """Check devices, versions, caches, disks, data sets and decoding speed; exit with 1 if there is a problem.

    Example: resnet-jax doctor

    Args:
        data_dir: TFDS folder to look into. By default $TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
        SystemExit: with 1, there is a problem.
    """
    from resnet_jax.data.reading.tfds_folders import default_data_dir
    from resnet_jax.diagnosing.diagnose import diagnose

    console = Console(highlight=False)
    with console.status("asking JAX for its devices"):
        findings = diagnose(Path("/"), os.environ, data_dir or default_data_dir())
    table = Table.grid("state", "subject", Column("found", overflow="fold"), padding=(0, 2))
    for finding in findings:
        lines = [*finding.found.splitlines(), *([f"-> {finding.remedy}"] if finding.remedy else [])]
        text = Text("\n".join(map(printable, lines)))
        table.add_row(Text(finding.state, COLORS[finding.state]), finding.subject, text)
    console.print(table)
    problems = sum(finding.state == "problem" for finding in findings)
    console.print(f"{problems or 'no'} problem{'' if problems == 1 else 's'}")
    if problems:
        raise SystemExit(1)
