"""What must be the same in all processes of a run."""

from pathlib import Path
from typing import Any

from resnet_jax.hardware import processes
from resnet_jax.runs.bucket import is_url
from resnet_jax.runs.environment import environment


def compare_starts(config: dict[str, Any], workdir: Path | str) -> None:
    """Compare configuration, versions and run folder of all processes.

    Raises:
        UsageError: they differ.
    """
    if processes.count() > 1:
        own = environment()
        folder = workdir if is_url(workdir) else Path(workdir).absolute()
        data = {key: value for key, value in config["data"].items() if key != "workers"}  # changes no result
        versions = {key: own[key] for key in ("packages", "python", "git_commit", "backend")}
        processes.check_equal({**versions, **config, "data": data, "workdir": str(folder)})


def compare_data(info: dict[str, Any], feed: dict[str, Any]) -> None:
    """Compare what the processes have read: metadata of a checkpoint, and the state of the feed.

    Raises:
        UsageError: they differ.
    """
    names = ("class_names", "image_shape", "train_images", "test_images", "data", "teacher")
    processes.check_equal({"feed": feed, **{name: info[name] for name in names if name in info}})
