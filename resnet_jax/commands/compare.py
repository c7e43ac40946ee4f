"""`resnet-jax compare`: several networks on the same images, recipe and machine."""

import json as json_texts
import re
import shlex
import sys
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from resnet_jax import errors
from resnet_jax.commands.tables import fitting_tables
from resnet_jax.commands.usage import OptionalNumber, fitting_help
from resnet_jax.comparing.columns import csv_of, rows_of
from resnet_jax.comparing.recommend import recommend
from resnet_jax.comparing.remarks import remarks_of
from resnet_jax.config import Config, as_dict, differences
from resnet_jax.errors import UsageError, writing
from resnet_jax.models.registry import REGISTRY
from resnet_jax.models.sets import SETS, SetName
from resnet_jax.recipe import parse_optional
from resnet_jax.runs.bucket import is_url

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Arguments(Config):
    """Compare networks on this machine: size, speed, memory, and with --train their accuracy after the same training.

    Example: resnet-jax compare --set small

    Example: resnet-jax compare --archs resnet18,mobilenet_v2 --train configs/digits.py --seeds 3

    Also: --train RECIPE, by which each network is trained, with the options of a recipe. A command that was stopped
    continues when it is repeated. The folder gets the page compare.html and the table as CSV and JSON.
    """

    archs: Annotated[str | None, tyro.conf.arg(metavar="ARCH,...")] = None
    """Names of the networks, with commas between them. By default those of --set."""
    set: SetName = "small"
    """The ResNet family, networks for small devices, networks of textbooks, or all that `resnet-jax list` shows."""
    seeds: int = 1
    """Number of training runs of each network, with consecutive seeds."""
    budget: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Training time of each run, such as 600s or 10m, from which the epochs follow. By default the recipe's epochs."""
    pretrained: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Start each training from the network's published weights."""
    image_size: OptionalNumber = None
    """Height and width in pixels, measured and trained. By default the recipe's, or 224."""
    batch_size: OptionalNumber = None
    """Images in a step. By default the recipe's; without a recipe, the size whose forward pass is the fastest."""
    repeats: int = 5
    """Number of measurements of each speed, each of half a second or one step."""
    target: Annotated[str | None, tyro.conf.arg(metavar="TARGET,...")] = None
    """Machines for whose highest possible speed to compile, as `plan --target` takes them, with commas between them."""
    max_latency_ms: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Longest time for one image that the recommended network may take."""
    max_parameters: OptionalNumber = None
    """Largest number of parameters that the recommended network may have."""
    min_accuracy: Annotated[float | None, tyro.conf.arg(metavar="PERCENT")] = None
    """Lowest accuracy that the recommended network may have, percent."""
    workdir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the comparison. By default runs/compare-<recipe>, or runs/compare-<pixels>."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object at the end instead of the table."""

    def __post_init__(self):
        errors.at_least(1, seeds=self.seeds, image_size=self.image_size, repeats=self.repeats)
        errors.at_least(2, batch_size=self.batch_size)
        errors.at_least(
            0, max_latency_ms=self.max_latency_ms, max_parameters=self.max_parameters, min_accuracy=self.min_accuracy
        )


def compare(args: list[str] | None = None) -> None:
    """Run the command with `args`, by default those of the command line."""
    with fitting_help(sys.argv if args is None else args):
        recipe, config, asked = parse_optional(Arguments, args, prog="resnet-jax compare", option="--train")
    archs, budget = parse_archs(asked), parse_budget(asked.budget)
    if recipe is None:
        check_untrained(config, asked)

    from resnet_jax.comparing.comparison import Asked, claim, compare, machine_of
    from resnet_jax.comparing.page import write_page
    from resnet_jax.comparing.settings import measured_settings, published_source, trained_settings
    from resnet_jax.runs.folder import write_json
    from resnet_jax.runs.opening import locked

    console = Console(highlight=False, stderr=asked.json)
    if recipe is None:
        settings, images = measured_settings(asked.image_size, asked.batch_size, asked.repeats), None
    else:
        sized = with_sizes(config, asked.image_size, asked.batch_size)
        settings, images = trained_settings(sized, asked.repeats, budget, pretrained=asked.pretrained)
    if settings.pretrained:
        for arch in archs:
            published_source(arch)
    workdir = asked.workdir or Path("runs") / f"compare-{settings.image_size if recipe is None else recipe.stem}"
    if is_url(workdir):
        raise UsageError(f"--workdir: got {workdir}, expected a folder on a disk, not in an object store")
    targets = tuple(asked.target.split(",")) if asked.target else ()
    shared = {
        "machine": machine_of(settings) | {"date": date.today().isoformat()},
        "command": shlex.join(["resnet-jax", "compare", *(sys.argv[2:] if args is None else args)]),
        "settings": {
            **{"image_size": settings.image_size, "batch_size": settings.batch_size, "classes": settings.classes},
            **{"stem": settings.model.stem, "repeats": settings.repeats, "targets": list(targets)},
            **{"recipe": None if recipe is None else str(recipe), "dataset": images and images.description},
            **{"seeds": asked.seeds, "epochs": None if images is None or budget else config.train.epochs},
            **{"budget_seconds": budget, "pretrained": settings.pretrained},
            **{name: getattr(asked, name) for name in ("max_latency_ms", "max_parameters", "min_accuracy")},
        },
    }
    wanted = Asked(archs, targets, asked.seeds, 0 if images is None else images.training_images)
    with locked(workdir):
        claim(workdir, settings)
        for networks in compare(settings, wanted, workdir, console):
            comparison = shared | {"networks": networks}
            write_json(workdir / "comparison.json", comparison)
            write_page(comparison, workdir / "compare.html")
    with writing(workdir, "give another --workdir"):
        (workdir / "comparison.csv").write_text(csv_of(networks, settings.image_size))
    if asked.json:
        print(json_texts.dumps(comparison))
    else:
        print_comparison(comparison, workdir, console)


def check_untrained(config: Config, asked: Arguments) -> None:
    """Refuse options about training where nothing is trained.

    Raises:
        UsageError: there is such an option.
    """
    about_training = {"--budget": asked.budget, "--pretrained": asked.pretrained, "--seeds": asked.seeds > 1}
    given = [option for option, value in about_training.items() if value] or sorted(
        f"--{change.split(':')[0].replace('_', '-')}" for change in differences(as_dict(Config()), as_dict(config))
    )
    if given:
        raise UsageError(f"{given[0]} is about training: add a recipe, as in --train configs/digits.py")


def with_sizes(config: Config, image_size: int | None, batch_size: int | None) -> Config:
    """Return a recipe with other sizes of the images and the batch, if they are given."""
    data, train = config.data, config.train
    return replace(
        config,
        data=data if image_size is None else replace(data, image_size=image_size),
        train=train if batch_size is None else replace(train, batch_size=batch_size),
    )


def parse_archs(asked: Arguments) -> tuple[str, ...]:
    """Return the networks that are asked for, each once.

    Raises:
        UsageError: there is no network of that name.
    """
    archs = tuple(dict.fromkeys(asked.archs.split(","))) if asked.archs is not None else SETS[asked.set]
    if unknown := [arch for arch in archs if arch not in REGISTRY]:
        raise UsageError(f"--archs: got {', '.join(map(repr, unknown))}, expected some of {', '.join(REGISTRY)}")
    return archs


def parse_budget(text: str | None) -> float | None:
    """Return a time such as "600s", "10m" or "1.5h" in seconds; a number alone is in seconds.

    Raises:
        UsageError: it is not such a time, or 0.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not seconds:
        raise UsageError(f"--budget: got {text}, expected a time such as 600s, 10m or 1h")
    return seconds


def print_comparison(comparison: dict[str, Any], workdir: Path, console: Console) -> None:
    """Print the table, the recommendation and the names of the files."""
    networks, rows = comparison["networks"], rows_of(comparison["networks"])
    for table in fitting_tables("network", [Text(network["arch"]) for network in networks], rows, console):
        console.print(table)
    machine = comparison["machine"]
    console.print(
        f"measured on {machine['processor']} ({machine['devices']} x {machine['device_kind']}), {machine['dtype']}, "
        f"JAX {machine['jax_version']}, at {comparison['settings']['image_size']} pixels",
        soft_wrap=True,
    )
    for sentence in (*remarks_of(comparison), *recommend(comparison).sentences):
        console.print(sentence, soft_wrap=True)
    console.print(f"Page: {workdir / 'compare.html'}; table: {workdir / 'comparison.csv'}", soft_wrap=True)
