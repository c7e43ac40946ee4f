"""Download published weights from the Hugging Face hub by name, cached and verified by the hub's SHA-256."""

import hashlib
import re
from pathlib import Path

from resnet_jax.errors import UsageError, UserError

FILE = "model.safetensors"
SUFFIXES = (".pth", ".pt", ".safetensors")
# timm publishes torchvision's own files on the hub under these tags.
TORCHVISION_TAGS = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}


def is_name(source: str) -> bool:
    """Return whether this is a hub name, `owner/repository`: not in an existing folder, without a weights suffix."""
    path = Path(source)
    is_path = path.exists() or path.parent.exists() or path.suffix in SUFFIXES
    return re.fullmatch(r"[\w-]+/[\w.-]+", source) is not None and not is_path


def repository(name: str) -> str:
    """Return the hub's repository for a name such as `timm/resnet18.a1_in1k` or `torchvision/resnet18.IMAGENET1K_V1`.

    Raises:
        UsageError: the owner is torchvision, and torchvision has no such tag.
    """
    owner, model = name.split("/")
    if owner != "torchvision":
        return name
    arch, _, tag = model.partition(".")
    if tag not in TORCHVISION_TAGS:
        known = " or ".join(f"torchvision/{arch}.{each}" for each in TORCHVISION_TAGS)
        raise UsageError(f"there are no weights {name}: got the tag {tag or 'nothing'}, expected {known}")
    return f"timm/{arch}.{TORCHVISION_TAGS[tag]}"


def fetch(name: str, file: str = FILE) -> Path:
    """Return the path of a file of a published model, after downloading it on first use.

    Raises:
        UserError: the file can't be downloaded (no connection, no such model, no disk space), or has another SHA-256.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo = repository(name)
    try:
        path = Path(hf_hub_download(repo, file))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = "no connection" if isinstance(error, LocalEntryNotFoundError) else str(error).splitlines()[0]
        raise UserError(
            f"could not download {name} ({reason}), and there is no file or folder of that name. Run again with a "
            f"connection; or download https://huggingface.co/{repo}/resolve/main/{file} elsewhere, and give its path "
            f"instead of the name (downloads are kept in {HF_HUB_CACHE})"
        ) from error
    verify(path)
    return path


def verify(path: Path) -> None:
    """Verify a file in the cache, where large files are named by the SHA-256 that the server reported.

    Raises:
        UserError: the content has another SHA-256.
    """
    expected = path.resolve().name
    if len(expected) == 64:
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != expected:
            raise UserError(f"{path.resolve()} has SHA-256 {got}, expected {expected}: delete it and run again")
