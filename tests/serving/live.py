"""A server in a process of its own, and a client that can send anything."""

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from golden.draw import draw_weights
from PIL import Image

from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.models.network import Network
from resnet_jax.weights.torchvision import torchvision_shapes

NAMES = ("ape", "bee", "cat", "dog", "eel", "fox", "gnu")
PREPROCESSING = Preprocessing(image_size=32, resize=36)
BOUNDARY = "b" * 40


class Reply(NamedTuple):
    """A server's answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    """A running server."""

    port: int
    process: subprocess.Popen
    tls: ssl.SSLContext | None = None

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send a request on a connection of its own; an image if the headers don't say otherwise."""
        headers = {"Content-Type": "image/png"} | (headers or {}) if body is not None else headers or {}
        kind = HTTPConnection if self.tls is None else partial(HTTPSConnection, context=self.tls)
        with closing(kind("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request("GET" if body is None else "POST", path, body, headers)
            response = connection.getresponse()
            named = {key.lower(): value for key, value in response.headers.items()}
            return Reply(response.status, named, response.read())

    def send(self, *files: tuple[str, bytes], query: str = "", headers: dict[str, str] | None = None) -> Reply:
        """Send files as a form."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask(f"/predict{query}", form(*files), kind | (headers or {}))

    def figure(self, name: str) -> float:
        """Return one of the metrics, by its name with its labels."""
        lines = self.ask("/metrics").body.decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)


def form(*files: tuple[str, bytes]) -> bytes:
    """Return the body of a form with files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


@contextmanager
def serving(*arguments: object, **environment: str) -> Iterator[Server]:
    """Start `resnet-jax serve` on a free port, and wait until it is ready."""
    command = [sys.executable, "-W", "error", "-m", "resnet_jax", "serve", *map(str, arguments), "--port", "0"]
    command += ["--dtype", "float32"]  # the tests compare with float32
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server ended"
        port = int(line.rstrip().rpartition(":")[2])
        assert process.stdout.readline().startswith("ready")
        yield Server(port, process)
    finally:
        process.kill()
        process.communicate()


def save_network(folder: Path, seed: int = 0) -> Path:
    """Save a small network with weights drawn by NumPy."""
    model = Network("resnet18", num_classes=len(NAMES), stem="cifar", width=4).abstract()
    load_torchvision(model, draw_weights(torchvision_shapes(model), seed))
    save_pretrained(model, folder, class_names=NAMES, preprocessing=PREPROCESSING)
    return folder


def draw_image(seed: int, kind: str = "png", size: tuple[int, int] = (48, 40)) -> bytes:
    """Return an encoded image of smooth noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def eventually(claim: Any, seconds: float = 60) -> None:
    """Wait until a claim holds."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)
