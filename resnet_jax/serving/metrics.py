"""Figures of a running server, in the form of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_jax.serving.batcher import SIZES

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The counters, gauges and distributions of a server."""

    def __init__(self) -> None:
        self._registry = to = CollectorRegistry()
        ProcessCollector(registry=to)
        self.requests = Counter("resnet_jax_requests", "Answered requests", ("path", "status"), registry=to)
        self.in_flight = Gauge("resnet_jax_requests_in_flight", "Requests that are being answered", registry=to)
        self.seconds = Histogram(
            "resnet_jax_request_seconds", "Time to answer", ("path",), registry=to, buckets=SECONDS
        )
        self.waiting = Gauge("resnet_jax_images_waiting", "Images being decoded or waiting", ("model",), registry=to)
        self.batches = Histogram("resnet_jax_batch_images", "Images in a batch", ("model",), registry=to, buckets=SIZES)
        self.step = Gauge("resnet_jax_model_step", "Training step of a run's weights", ("model",), registry=to)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """Middleware that counts and times every request.

    Args:
        app: the application.
        metrics: where the figures go.
        paths: those that exist; all others are counted together.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]):
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, status = scope["path"] if scope["path"] in self._paths else "other", 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with self._metrics.in_flight.track_inprogress(), self._metrics.seconds.labels(path).time():
                await self._app(scope, receive, send_noting)
        finally:
            self._metrics.requests.labels(path, str(status)).inc()
