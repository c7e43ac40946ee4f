"""A whole comparison, network by network; its folder keeps what is done, so that it can be continued."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from resnet_jax.benchmarking.sweep import out_of_memory
from resnet_jax.comparing.ceilings import ceiling_of
from resnet_jax.comparing.measuring import measure_network
from resnet_jax.comparing.settings import Settings, usual_stem
from resnet_jax.comparing.training import epochs_within, summarize_runs, train_once
from resnet_jax.config import differences
from resnet_jax.errors import UsageError, UserError
from resnet_jax.json_files import read_json
from resnet_jax.models.network import PUBLISHED_WIDTH
from resnet_jax.models.published import published_figures
from resnet_jax.runs.environment import processor
from resnet_jax.runs.folder import has_trained, write_json
from resnet_jax.training.interrupt import Interrupted

LISTED = 3  # differing settings that are named
REMEDY = "delete it, and it is measured again"


@dataclass(frozen=True)
class Asked:
    """The networks to compare, and what to find out about each."""

    archs: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """Machines for whose ceilings to compile."""
    seeds: int = 1
    """Number of training runs of each network."""
    train_images: int = 0
    """Images in an epoch."""


def machine_of(settings: Settings) -> dict[str, Any]:
    """Return what the measured figures depend on beside the settings."""
    devices = jax.devices()
    return {
        "processor": processor(),
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "jax_version": jax.__version__,
        "dtype": settings.model.dtype,
    }


def claim(workdir: Path, settings: Settings) -> None:
    """Write the settings into the folder of a comparison, or check that they are the same.

    Raises:
        UsageError: the folder holds a comparison with other settings.
        UserError: its settings can't be read.
    """
    path, new = workdir / "settings.json", settings.as_dict()
    if not path.exists():
        write_json(path, new)
        return
    old = read_json(path, dict[str, dict[str, Any]], "give another --workdir")
    if changed := differences(old, new):
        more = f"; and {len(changed) - LISTED} more" if len(changed) > LISTED else ""
        raise UsageError(
            f"{workdir} holds a comparison with other settings ({'; '.join(changed[:LISTED])}{more}): "
            "repeat its own to continue it, or give another --workdir"
        )


def compare(settings: Settings, asked: Asked, workdir: Path, console: Console) -> Iterator[list[dict[str, Any]]]:
    """Measure the networks, then train them seed by seed; what the folder holds is read instead.

    Args:
        settings: what all networks have in common.
        asked: networks, targets and seeds.
        workdir: folder of the comparison, which `claim` has checked.
        console: where progress is shown.

    Yields:
        The figures of all networks, after each part of the work.

    Raises:
        UserError: memory, a disk or a download does not allow a part; the other parts are kept.
        Interrupted: a training run was asked to stop, and has saved its state.
    """
    if asked.targets:
        _check_planned(settings)
    networks = {arch: _start(arch) for arch in asked.archs}
    for number, arch in enumerate(asked.archs, 1):
        with Console(stderr=True).status(f"{arch} ({number} of {len(asked.archs)})") as status:

            def say(message: str, prefix: str = str(status.status)) -> None:
                status.update(f"{prefix}: {message}")

            for target in asked.targets:
                say(f"compiling for {target}")
                networks[arch]["ceilings"][target] = _ceiling(settings, arch, target, workdir)
            networks[arch] |= _measured(settings, arch, workdir, say)
        yield list(networks.values())
    if settings.recipe is None:
        return
    runs: dict[str, list[dict[str, Any]]] = {arch: [] for arch in asked.archs}
    for seed in range(asked.seeds):
        for arch in asked.archs:
            config = settings.run(arch, seed, _epochs(settings, asked, networks[arch], workdir))
            folder = workdir / "runs" / f"{arch}-seed{config.train.seed}"
            console.rule(f"{arch}, seed {config.train.seed}")
            try:
                runs[arch].append(run := train_once(config, folder, console))
            except Interrupted as stopped:
                raise Interrupted(stopped.step, workdir, stopped.signal_number) from stopped
            console.print(f"{arch}, seed {config.train.seed}: {run['accuracy']:.2%} in {run['seconds']:,.0f} s")
            networks[arch]["trained"] = summarize_runs(runs[arch], networks[arch])
            yield list(networks.values())


def _check_planned(settings: Settings) -> None:
    """Raise a `UsageError` if `plan` would compute another network than the one that is compared."""
    planned = (PUBLISHED_WIDTH, usual_stem(settings.image_size))
    if (settings.model.width, settings.model.stem) != planned:
        raise UsageError(
            f"--target: got width {settings.model.width}, stem {settings.model.stem} at {settings.image_size} pixels, "
            f"expected {planned[0]} and {planned[1]}, for which `plan` compiles: leave --target out"
        )


def _start(arch: str) -> dict[str, Any]:
    published = [figures._asdict() for figures in published_figures().get(arch, [])]
    return {"arch": arch, "published": published, "ceilings": {}, "trained": None}


def _epochs(settings: Settings, asked: Asked, network: dict[str, Any], workdir: Path) -> int:
    """Return the epochs of a network's runs; within a budget, those of its first run once that has begun."""
    assert settings.recipe is not None
    train = settings.recipe.train
    if settings.budget_seconds is None:
        return train.epochs
    first = workdir / "runs" / f"{network['arch']}-seed{train.seed}"
    if has_trained(first):  # another machine or version may have another speed now
        return read_json(first / "config.json", dict[str, dict[str, Any]], REMEDY)["train"]["epochs"]
    speed = network.get("train_images_per_second")
    if speed is None:
        raise UsageError(f"--budget: {network['arch']} can't be trained: {network['remark']}; leave it out of --archs")
    return epochs_within(settings.budget_seconds, speed, asked.train_images)


def _measured(settings: Settings, arch: str, workdir: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Read a network's figures if this machine has measured them, otherwise measure and write them."""
    path, machine = workdir / "measured" / f"{arch}.json", machine_of(settings)
    if path.exists():
        stored = read_json(path, dict[str, dict[str, Any]], REMEDY)
        if stored["machine"] == machine:
            return stored["figures"]
    try:
        figures = measure_network(settings, arch, say) | {"measured_on": date.today().isoformat()}
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"{arch}: out of memory; choose a smaller --batch-size or --image-size, or leave it out of --archs"
        ) from error
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"machine": machine, "figures": figures})
    return figures


def _ceiling(settings: Settings, arch: str, target: str, workdir: Path) -> dict[str, Any]:
    path = workdir / "ceilings" / f"{arch}-{target.replace(':', '-')}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_json(path, ceiling_of(arch, target, settings.image_size, settings.classes))
    return read_json(path, dict[str, Any], REMEDY)
