"""A server process: its address, its models, and its end."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import uvicorn

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.files import CORES
from resnet_jax.errors import UserError
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.page.examples import Examples
from resnet_jax.serving.app import make_app
from resnet_jax.serving.images import limit_pixels
from resnet_jax.serving.limits import Limits
from resnet_jax.serving.metrics import Metrics
from resnet_jax.serving.model import ServedModel, Threads
from resnet_jax.serving.watch import checkpoints_of, watch


class Tls(NamedTuple):
    """The files of an encrypted connection, in PEM format."""

    certificate: Path
    key: Path | None
    """None if it is in the same file."""


@contextmanager
def address(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address; connections are refused until the server listens.

    Raises:
        UserError: the address is not this machine's, or in use.
    """
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            taken = stack.enter_context(socket.socket(family, kind, protocol))
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(where)
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"can't listen on {host} port {port} ({why}): give another --port, or 0") from error
        yield taken


def start(
    classifiers: Mapping[str, tuple[str, Classifier]],
    listener: socket.socket,
    *,
    limits: Limits,
    precision: Precision,
    token: str | None,
    tls: Tls | None,
    examples: Examples,
    reload: bool,
    when_ready: Callable[[], None],
) -> None:
    """Answer requests until a signal ends the process, and every request that was accepted before.

    Args:
        classifiers: source and network of each model, by the name under which clients know it.
        listener: from `address`.
        limits: on requests.
        precision: type of the computation.
        token: that clients must have, if any.
        tls: for HTTPS.
        examples: images that the page offers.
        reload: follow the runs among the sources while they train.
        when_ready: called when all models are compiled.

    Raises:
        UserError: the files of `tls` can't be used.
    """
    limit_pixels(limits.megapixels * 10**6)
    metrics = Metrics()
    threads = Threads(ThreadPoolExecutor(1, "device"), ThreadPoolExecutor(CORES, "decoding"))
    models = {
        name: ServedModel(name, source, classifier, limits.queue, precision, threads, metrics)
        for name, (source, classifier) in classifiers.items()
    }
    config = uvicorn.Config(
        make_app(models, limits, token, metrics, examples),
        http="h11",  # it limits the size of headers
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=limits.seconds + 5,
        ssl_certfile=tls and tls.certificate,
        ssl_keyfile=tls and tls.key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"can't use {tls and tls.certificate} ({error}): give a certificate and its key in PEM format"
        ) from error
    asyncio.run(_serve(uvicorn.Server(config), listener, list(models.values()), reload, when_ready))


async def _serve(
    server: uvicorn.Server,
    listener: socket.socket,
    models: Sequence[ServedModel],
    reload: bool,
    when_ready: Callable[[], None],
) -> None:
    """Run server and models beside each other; an error in one of them ends all."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(model.run()) for model in models]
        if reload:
            sources = [(model, checkpoints_of(model.source)) for model in models]
            tasks += [group.create_task(watch(model, folder)) for model, folder in sources if folder]
        tasks.append(group.create_task(_tell(models, when_ready)))
        await server.serve(sockets=[listener])
        for task in tasks:
            task.cancel()


async def _tell(models: Sequence[ServedModel], when_ready: Callable[[], None]) -> None:
    for model in models:
        await model.compiled.wait()
    when_ready()
