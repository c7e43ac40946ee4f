"""torchvision's published weights that no model hub has under torchvision's keys, from PyTorch's own server."""

import hashlib
import os
import re
import tempfile
import urllib.request
from pathlib import Path
from typing import Literal, NamedTuple

from platformdirs import user_cache_path

from resnet_jax.errors import DISK_ERRORS, UsageError, UserError

SERVER = "https://download.pytorch.org/models/"
TIMEOUT = 20  # seconds without an answer
BLOCK = 1 << 20  # bytes read at once


class Published(NamedTuple):
    """A file, and how its weights expect the images; the crop has 224 pixels."""

    file: str
    """Name on the server; it ends in the first digits of the file's SHA-256."""
    resize: int = 256
    """Length to which the shorter side is resized, pixels."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


FILES: dict[str, Published] = {
    "alexnet.IMAGENET1K_V1": Published("alexnet-owt-7be5be79.pth"),
    "convnext_tiny.IMAGENET1K_V1": Published("convnext_tiny-983f1562.pth", 236),
    "densenet121.IMAGENET1K_V1": Published("densenet121-a639ec97.pth"),
    "efficientnet_b0.IMAGENET1K_V1": Published("efficientnet_b0_rwightman-7f5810bc.pth", 256, "bicubic"),
    "googlenet.IMAGENET1K_V1": Published("googlenet-1378be20.pth"),
    "mnasnet1_0.IMAGENET1K_V1": Published("mnasnet1.0_top1_73.512-f206786ef8.pth"),
    "mobilenet_v2.IMAGENET1K_V1": Published("mobilenet_v2-b0353104.pth"),
    "mobilenet_v2.IMAGENET1K_V2": Published("mobilenet_v2-7ebf99e0.pth", 232),
    "mobilenet_v3_large.IMAGENET1K_V1": Published("mobilenet_v3_large-8738ca79.pth"),
    "mobilenet_v3_large.IMAGENET1K_V2": Published("mobilenet_v3_large-5c1a4163.pth", 232),
    "regnet_y_400mf.IMAGENET1K_V1": Published("regnet_y_400mf-c65dace8.pth"),
    "regnet_y_400mf.IMAGENET1K_V2": Published("regnet_y_400mf-e6988f5f.pth", 232),
    "shufflenet_v2_x1_0.IMAGENET1K_V1": Published("shufflenetv2_x1-5666bf0f80.pth"),
    "squeezenet1_1.IMAGENET1K_V1": Published("squeezenet1_1-b8a52dc0.pth"),
    "vgg11_bn.IMAGENET1K_V1": Published("vgg11_bn-6002323d.pth"),
    "vgg16_bn.IMAGENET1K_V1": Published("vgg16_bn-6c64b313.pth"),
}


def published(name: str) -> Published | None:
    """Return the file of a name such as `torchvision/alexnet.IMAGENET1K_V1`; None if a hub has it.

    Raises:
        UsageError: there are files of this network, but none of that tag.
    """
    owner, _, model = name.partition("/")
    if owner != "torchvision" or model in FILES:
        return FILES.get(model) if owner == "torchvision" else None
    arch, _, tag = model.partition(".")
    if known := [f"torchvision/{each}" for each in FILES if each.startswith(f"{arch}.")]:
        raise UsageError(f"there are no weights {name}: got the tag {tag or 'nothing'}, expected {' or '.join(known)}")
    return None


def fetch_file(file: str) -> Path:
    """Return the path of a file in the cache, after downloading it on first use.

    Raises:
        UserError: it can't be downloaded or kept, or its SHA-256 is not the one in its name.
    """
    folder = user_cache_path("resnet_jax", appauthor=False) / "weights"
    path = folder / file
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            new = Path(temporary) / file
            _download(SERVER + file, new)
            _verify(new)
            os.replace(new, path)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise UserError(
                f"can't keep {file} in {folder} ({error.strerror}): free space there, or set XDG_CACHE_HOME to a "
                "folder on another disk"
            ) from error
        raise UserError(
            f"{SERVER}{file} could not be downloaded ({error}). Run again with a connection; or download it elsewhere, "
            "and give its path instead of the name"
        ) from error
    return path


def _download(url: str, path: Path) -> None:
    from rich.console import Console
    from rich.progress import wrap_file

    with urllib.request.urlopen(url, timeout=TIMEOUT) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0))
        console = Console(stderr=True)  # standard output is for results
        with wrap_file(response, size, description=path.name, transient=True, console=console) as shown:
            while block := shown.read(BLOCK):
                file.write(block)


def _verify(path: Path) -> None:
    expected = re.split(r"[-.]", path.name)[-2]
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if not got.startswith(expected):
        raise UserError(f"{SERVER}{path.name} came with SHA-256 {got}, expected {expected}...: download it again")
