"""`resnet-jax serve` and LitServe with the same predictor, in turns under the load of serve_load.py.

    pip install litserve
    python tests/peers/serve_litserve.py MODEL

LitServe has the largest batch and the longest wait of `resnet-jax serve`. As in LitServe's own benchmark of an image
classifier, an image arrives in base64, and a batch is decoded by as many threads as there are cores, in one worker by
default. Its predictor computes no heat map, and has a program for each power of 2. The server whose turn it is not is
stopped, as LitServe's processes look for requests all the time.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from litserve import LitAPI, LitServer
from PIL import Image
from serve_load import load, photographs, request, show

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.files import CORES, best
from resnet_jax.classifier.predictor import Predictor
from resnet_jax.serving.batcher import SIZES, WAIT

LARGEST = SIZES[-1]
OURS, THEIRS = 8010, 8011
"""Ports."""


class Classification(LitAPI):
    """Answers with the five likeliest classes, as the server of this project does by default."""

    def __init__(self, source: str):
        super().__init__(max_batch_size=LARGEST, batch_timeout=WAIT)
        self.source = source

    def setup(self, device: str) -> None:
        classifier = load_classifier(self.source)
        self.names, self.preprocessing = classifier.class_names, classifier.preprocessing
        self.predictor = Predictor(classifier, batch_size=LARGEST, often=True, precision="auto")
        self.threads = ThreadPoolExecutor(CORES)
        side = self.preprocessing.image_size
        for size in (1, 2, 4, 8, 16):
            self.predictor(np.zeros((size, side, side, 3), np.uint8))

    def decode_request(self, request: dict[str, str]) -> str:
        return request["image"]

    def batch(self, files: list[str]) -> np.ndarray:
        return np.stack(list(self.threads.map(self._decode, files)))

    def _decode(self, file: str) -> np.ndarray:
        with Image.open(io.BytesIO(base64.b64decode(file))) as image:
            return self.preprocessing.decode(image)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.predictor(images).probabilities

    def encode_response(self, probabilities: np.ndarray) -> dict:
        guesses = best(probabilities, self.names, 5)
        return {"predictions": [{"class": it.name, "probability": it.probability} for it in guesses]}


@contextmanager
def process(command: list[str], port: int, health: str) -> Iterator[int]:
    """Start a server in a group of processes of its own, which is stopped when it is ready, and return the group."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        while not ready(f"http://127.0.0.1:{port}{health}"):
            time.sleep(0.2)
        os.killpg(server.pid, signal.SIGSTOP)
        yield server.pid
    finally:
        os.killpg(server.pid, signal.SIGKILL)


def ready(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return answer.status == 200
    except URLError:  # also the status 503
        return False


def compare(servers: dict[str, tuple[int, int, list[bytes]]], clients: int, rounds: int, duration: float) -> None:
    """Print what `clients` see of each server in turns: by name, its group of processes, its port and the requests."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in servers}
    for turn in range(-1, rounds):  # the first is left out
        for name in sorted(servers, reverse=turn % 2 == 1):
            group, port, requests = servers[name]
            os.killpg(group, signal.SIGCONT)
            found, statuses = asyncio.run(load(port, requests, clients, duration))
            os.killpg(group, signal.SIGSTOP)
            assert set(statuses) == {200}, statuses
            if turn >= 0:
                seconds[name].append(found)
    for name, turns in seconds.items():
        print(name, end=", ")
        show(clients, list(chain(*turns)), {200: sum(map(len, turns))}, rounds * duration)
    first, second = (np.array(list(map(len, turns))) for turns in seconds.values())
    low, middle, high = np.percentile(first / second, (25, 50, 75))
    print(f"ratio of the rates in a turn: median {middle:.2f}, quartiles {low:.2f}, {high:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4, help="of a turn")
    parser.add_argument("--side", type=int, default=256, help="height of the images, pixels")
    parser.add_argument("--workers", type=int, default=1, help="processes of LitServe with a predictor")
    parser.add_argument("--serve", action="store_true", help="only start LitServe")
    arguments = parser.parse_args()
    if arguments.serve:
        api = Classification(arguments.model)
        server = LitServer(api, accelerator="cpu", workers_per_device=arguments.workers, fast_queue=True)
        return server.run("127.0.0.1", THEIRS, log_level="warning", access_log=False, generate_client_file=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers end too
    files = photographs(16, arguments.side)
    bodies = [json.dumps({"image": base64.b64encode(file).decode()}).encode() for file in files]
    our_command = [sys.executable, "-m", "resnet_jax", "serve", arguments.model, "--port", str(OURS)]
    their_command = [sys.executable, __file__, *sys.argv[1:], "--serve"]
    with process(our_command, OURS, "/readyz") as ours, process(their_command, THEIRS, "/health") as theirs:
        servers = {
            "resnet-jax serve": (ours, OURS, [request(file) for file in files]),
            "LitServe": (theirs, THEIRS, [request(body, "application/json") for body in bodies]),
        }
        for clients in arguments.clients:
            compare(servers, clients, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
