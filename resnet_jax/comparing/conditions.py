"""The conditions under which networks were compared, in words."""

from collections.abc import Mapping
from typing import Any


def conditions_of(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the figures hold for: machine, software, sizes and training, each with its name."""
    machine, settings = comparison["machine"], comparison["settings"]
    batch = settings.get("batch_size")
    conditions = [
        ("processor", machine.get("processor")),
        ("devices", f"{machine.get('devices')} x {machine.get('device_kind')}"),
        ("software", f"JAX {machine.get('jax_version')}, {machine.get('dtype')}"),
        ("date", machine.get("date")),
        ("measured images", f"{settings['image_size']}x{settings['image_size']} pixels"),
        ("stem, classes", f"{settings.get('stem')}, {settings.get('classes'):,}"),
        ("batch size", f"{batch:,}" if batch else "for each network the one whose forward pass is the fastest"),
        ("measurements", f"median of {settings.get('repeats')}"),
        ("targets", ", ".join(settings.get("targets") or ())),
        ("recipe", settings.get("recipe")),
        ("data set", settings.get("dataset")),
        ("training", _training(settings) if settings.get("recipe") else None),
        ("limits", _limits(settings)),
    ]
    return [(term, str(value)) for term, value in conditions if value]


def _training(settings: Mapping[str, Any]) -> str:
    budget, epochs, seeds = settings.get("budget_seconds"), settings.get("epochs"), settings.get("seeds")
    length = f"{budget:g} seconds of training each" if budget else f"{epochs} epochs"
    start = "from published weights" if settings.get("pretrained") else "from scratch"
    return f"{length}, {start}, {seeds} {'seed' if seeds == 1 else 'seeds'}"


def _limits(settings: Mapping[str, Any]) -> str:
    slowest, largest, least = (settings.get(key) for key in ("max_latency_ms", "max_parameters", "min_accuracy"))
    return ", ".join(
        [
            *([f"at most {slowest:g} ms for one image"] if slowest is not None else []),
            *([f"at most {largest:,} parameters"] if largest is not None else []),
            *([f"at least {least:g}% accuracy"] if least is not None else []),
        ]
    )
