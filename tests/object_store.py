"""Real object stores on the loopback address, each in a process of its own, for the clients of Amazon and Google."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import fsspec
import pytest

BUCKET = "runs"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def serving(*command: str, port: int) -> Iterator[None]:
    """Run a server until the end of the block, which begins when the server answers."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", *command], stdout=quiet, stderr=quiet) as server:
        try:
            for _ in range(600):
                assert server.poll() is None
                try:
                    with socket.create_connection(("127.0.0.1", port)):
                        break
                except ConnectionRefusedError:
                    time.sleep(0.1)
            yield
        finally:
            server.kill()


@contextmanager
def s3_store() -> Iterator[str]:
    """Yield the address of a bucket in moto's server, which this process and its children find by their environment."""
    port = free_port()
    with serving("moto.server", "-H", "127.0.0.1", "-p", str(port), port=port), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client("s3").mkdir(BUCKET)
        yield f"s3://{BUCKET}"


@contextmanager
def gs_store() -> Iterator[str]:
    """Yield the address of a bucket in an emulator of Google's store, likewise."""
    port = free_port()
    options = (f"--host=127.0.0.1 --port={port} --in-memory --default-bucket={BUCKET}").split()
    with serving("gcp_storage_emulator", "start", *options, port=port), pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("NO_GCE_CHECK", "true")  # otherwise the client asks for the metadata of the machine
        yield f"gs://{BUCKET}"


def client(scheme: str) -> fsspec.AbstractFileSystem:
    """Return a client that remembers no listings, since other processes write; each store has its own."""
    return _client(scheme, os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("STORAGE_EMULATOR_HOST"))


@cache
def _client(scheme: str, *addresses: str | None) -> fsspec.AbstractFileSystem:
    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


def names(url: str) -> set[str]:
    """Return the names of the files below an address, relative to it."""
    scheme, _, folder = url.partition("://")
    return {path.removeprefix(f"{folder}/") for path in client(scheme).find(folder)}


def steps(url: str) -> list[int]:
    """Return the steps of the complete checkpoints of a run, ascending."""
    parts = (name.split("/") for name in names(url))
    return sorted(int(each[1]) for each in parts if each[0] == "checkpoints" and each[2:] == ["checksums.json"])
