"""Download published weights from the Hugging Face hub by name, cached and verified by the hub's SHA-256."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from resnet_jax.errors import DISK_ERRORS, UsageError, UserError

FILE = "model.safetensors"
RUNS = "runs"
"""Folder in which runs are by default, and so the beginning of a mistyped path rather than the owner of a model."""
SUFFIXES = (".pth", ".pt", ".safetensors")
# timm publishes torchvision's own files on the hub under these tags.
TORCHVISION_TAGS = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}


def is_name(source: str) -> bool:
    """Return whether this is a hub name, `owner/repository`, and not the path of a file or folder, also a mistyped one.

    A path is what exists, what would be in an existing folder or in `runs`, and what has the suffix of weights.
    """
    path = Path(source)
    is_path = path.exists() or path.parent.exists() or path.parent.name == RUNS or path.suffix in SUFFIXES
    return _has_form(source) and not is_path


def why_path(source: str) -> str:
    """Return why a source with the form of a hub name is taken for a path; empty if it does not have that form."""
    path = Path(source)
    if not _has_form(source):
        return ""
    reason = f"{path.parent} is a folder here" if path.parent.exists() else "it reads as a path"
    return f" ({reason}, so no published name was looked up)"


def _has_form(source: str) -> bool:
    return re.fullmatch(r"[\w-]+/[\w.-]+", source) is not None


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


def fetch(name: str, *files: str) -> list[Path]:
    """Return the paths of files of a published model, after downloading them on first use.

    A hub that does not answer is given up after HF_HUB_ETAG_TIMEOUT seconds, 10 by default; files that were downloaded
    before are then used.

    Raises:
        UserError: a file can't be downloaded (no connection, no such model, no disk space), or has another SHA-256.
    """
    repo = repository(name)
    paths = []
    for file in files:
        try:
            path = _download(repo, file)
        except Exception as error:  # of the HTTP client, which is another one in every other version of the library
            raise _failure(name, repo, files, error) from error
        verify(path)
        paths.append(path)
    return paths


def _download(repo: str, file: str) -> Path:
    """Ask the hub once before leaving the download to its library, which would repeat the question for minutes."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(repo, file))
    except Exception as unanswered:
        try:
            return Path(hf_hub_download(repo, file, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unanswered from None
    return Path(hf_hub_download(repo, file))


def _failure(name: str, repo: str, files: Sequence[str], error: Exception) -> UserError:
    """Make the error of a download: why it failed, and what helps."""
    from huggingface_hub import errors, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE

    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return UserError(
            f"can't keep {name} in {HF_HUB_CACHE} ({error.strerror}): free space there, or set HF_HOME to a folder on "
            "another disk"
        )
    here = f"there is no file or folder {name}, and the published model of that name"
    if isinstance(error, errors.RepositoryNotFoundError | errors.EntryNotFoundError):
        entry = isinstance(error, errors.EntryNotFoundError)
        found = (
            f"lacks one of the files {' and '.join(files)}"
            if entry
            else "does not exist, or needs the HF_TOKEN of somebody who may read it"
        )
        return UserError(f"{here} {found}: correct the path or the name")
    remedy = "Run again with a connection"
    if isinstance(error, errors.OfflineModeIsEnabled):
        reason, remedy = "HF_HUB_OFFLINE is set", "Unset HF_HUB_OFFLINE"
    elif isinstance(error, errors.HfHubHTTPError):
        reason = str(error).splitlines()[0]
    else:
        reason = f"no connection: {str(error) or type(error).__name__}"
    urls = " and ".join(hf_hub_url(repo, file) for file in files)
    elsewhere = "put them into one folder, and give its path" if len(files) > 1 else "and give its path"
    return UserError(
        f"{here} could not be downloaded ({reason}). {remedy}; or download {urls} elsewhere, {elsewhere} instead of "
        f"the name (downloads are kept in {HF_HUB_CACHE})"
    )


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
