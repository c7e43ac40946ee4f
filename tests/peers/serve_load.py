"""Load on `resnet-jax serve`, beside the bare predictor on the same machine: throughput, latency, memory, refusals.

    python tests/peers/serve_load.py MODEL --clients 32 --seconds 60

The clients are one process of asyncio connections, each of which sends its next request when the last one is answered.
They share the processor with the server.
"""

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import time

import numpy as np
from PIL import Image


def photographs(count: int, side: int) -> list[bytes]:
    """Return smooth noise as JPEG files of about the size of photographs."""
    files = []
    for seed in range(count):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).resize((side * 4 // 3, side), Image.Resampling.BICUBIC).save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    return files


def request(body: bytes, kind: str = "image/jpeg") -> bytes:
    """Return a request with a body of this type."""
    return (
        f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def ask(port: int, request: bytes, until: float, seconds: list[float], statuses: dict[int, int]) -> None:
    """Send a request again and again until a time, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        start = time.perf_counter()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", answer)
        await reader.readexactly(int(length))
        status = int(answer[9:12])
        statuses[status] = statuses.get(status, 0) + 1
        if status == 200:
            seconds.append(time.perf_counter() - start)
        else:
            await asyncio.sleep(1)  # Retry-After
    writer.close()


async def load(port: int, requests: list[bytes], clients: int, duration: float) -> tuple[list[float], dict[int, int]]:
    """Return the seconds until each answer of status 200, and the number of answers by their status."""
    seconds: list[float] = []
    statuses: dict[int, int] = {}
    until = time.perf_counter() + duration
    await asyncio.gather(*(ask(port, requests[n % len(requests)], until, seconds, statuses) for n in range(clients)))
    return seconds, statuses


def show(clients: int, seconds: list[float], statuses: dict[int, int], duration: float) -> None:
    """Print what `clients` at the same time have seen."""
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) * 1000
    rate = len(seconds) / duration
    print(f"{clients} clients: {rate:.1f} images/s, p50 {p50:.1f} p95 {p95:.1f} p99 {p99:.1f} ms, statuses {statuses}")


def used(process: subprocess.Popen) -> tuple[float, float]:
    """Return the resident memory of a process in MB, and its processor time in seconds."""
    with open(f"/proc/{process.pid}/status") as file:
        memory = int(re.findall(r"VmRSS:\s+(\d+)", file.read())[0]) / 1e3
    with open(f"/proc/{process.pid}/stat") as file:
        ticks = file.read().rpartition(")")[2].split()[11:13]
    return memory, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def bare(model: str, duration: float) -> None:
    """Print the speed of the predictor alone, in a process of its own: batches of 16, and single images."""
    from resnet_jax.classifier.classifier import load_classifier
    from resnet_jax.classifier.predictor import Predictor

    classifier = load_classifier(model)
    side = classifier.preprocessing.image_size
    predictor = Predictor(classifier, batch_size=16, explain=True, often=True, precision="auto")  # as in the server
    for size in (1, 16):
        images = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), np.uint8)
        predictor(images)
        times, until = [], time.perf_counter() + duration
        while time.perf_counter() < until:
            start = time.perf_counter()
            predictor(images)
            times.append(time.perf_counter() - start)
        median = float(np.median(times))
        print(
            f"bare predictor, batch {size}: {size * len(times) / sum(times):.1f} images/s, median {median * 1e3:.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--side", type=int, default=384, help="height of the images, pixels")
    parser.add_argument("--bare", action="store_true", help="only measure the predictor")
    parser.add_argument("--options", nargs="*", default=[], help="of the server, such as limits.queue=64")
    arguments = parser.parse_args()
    if arguments.bare:
        return bare(arguments.model, arguments.seconds / 4)
    subprocess.run(
        [sys.executable, __file__, arguments.model, "--bare", "--seconds", str(arguments.seconds)], check=True
    )
    options = [
        word for option in arguments.options for word in (f"--{option.partition('=')[0]}", option.partition("=")[2])
    ]
    command = [sys.executable, "-m", "resnet_jax", "serve", arguments.model, "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rstrip().rpartition(":")[2])
        server.stdout.readline()
        bodies = photographs(16, arguments.side)
        print(json.dumps({"bytes of an image": sum(map(len, bodies)) // len(bodies)}))
        requests = list(map(request, bodies))
        for clients in arguments.clients:
            asyncio.run(load(port, requests, clients, 5))  # warm
            before, start = used(server)
            seconds, statuses = asyncio.run(load(port, requests, clients, arguments.seconds))
            show(clients, seconds, statuses, arguments.seconds)
            after, end = used(server)
            spent = (end - start) / len(seconds) * 1e3
            print(f"memory {before:.0f} -> {after:.0f} MB, processor time {spent:.1f} ms an image")
        server.terminate()


if __name__ == "__main__":
    main()
