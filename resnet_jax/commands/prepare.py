"""`resnet-jax prepare`: images as a prepared TFDS folder, which streams faster than single files."""

import re
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_jax.commands.usage import OptionalFolder, OptionalNumber
from resnet_jax.errors import UsageError, UserError, at_least, printable

VERSIONS = {"folder": "1.0.0", "imagenet2012": "5.1.0"}  # the second is TFDS's own


def prepare(
    kind: Annotated[tyro.conf.Positional[Literal["folder", "imagenet2012"]], tyro.conf.arg(metavar="KIND")],
    *,
    source: Annotated[Path, tyro.conf.arg(name="from", metavar="FOLDER")],
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    dir: OptionalFolder = None,
    max_side: OptionalNumber = None,
    quality: int = 90,
) -> None:
    """Write images as a data set that TensorFlow Datasets (TFDS) could have prepared, without TensorFlow.

    A few large files are read faster than a million small ones, and smaller images are decoded faster. A killed
    preparation goes on with the same command.

    Example: resnet-jax prepare folder --from photos --max-side 400

    Args:
        kind: "folder", class folders as for training; "imagenet2012", the official archives, or their class folders in
            train and val.
        source: where the images are.
        name: of the data set, for --data.name; by default that of the folder, or imagenet2012.
        dir: folder of the prepared sets; by default $TFDS_DATA_DIR, or else ~/tensorflow_datasets.
        max_side: pixels of the longer side to which larger images are shrunk; by default images stay as they are.
        quality: of the JPEGs that are written, from 1 to 95.

    Raises:
        UsageError: an option's value is out of its range.
        UserError: the images can't be read, the data set is prepared already, or it can't be written.
    """
    at_least(1, max_side=max_side, quality=quality)
    if quality > 95:
        raise UsageError(f"--quality: got {quality}, expected at most 95")
    from resnet_jax.data.builders.imagenet import open_imagenet
    from resnet_jax.data.builders.shards import Storing, write_prepared
    from resnet_jax.data.reading.tfds_folders import default_data_dir
    from resnet_jax.data.source import open_folder

    found = open_imagenet(source) if kind == "imagenet2012" else open_folder(source)
    name = name or ("imagenet2012" if kind == "imagenet2012" else re.sub(r"\W+", "_", found.name).lower())
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"--name: got {name}, expected letters, digits and underscores")
    root = (dir or default_data_dir()).expanduser().absolute()
    folder = root / name / VERSIONS[kind]
    if folder.exists():
        raise UserError(f"{folder} is prepared already: delete it, or give another --name")
    console = Console(stderr=True, highlight=False)
    for remark in found.remarks:
        console.print(printable(remark), markup=False, soft_wrap=True)
    test = "validation" if kind == "imagenet2012" else "test"
    named = {"train": found.train, "validation": found.val, test: found.test}
    splits = {split: examples for split, examples in named.items() if examples is not None and len(examples)}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"writing {name}", total=sum(map(len, splits.values())))
        write_prepared(found, folder, splits, Storing(max_side, quality), lambda count: bar.advance(task, count))
    counts = ", ".join(f"{len(examples):,} {split}" for split, examples in splits.items())
    print(f"{folder}: {counts} images of {len(found.class_names)} classes")
    print(f"To train on them, give a recipe data=DataConfig(name={name!r}, dir=Path({str(root)!r})).")
