"""Figures of a running server, in the form of Prometheus."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resnet_jax.serving.batcher import SIZES

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters, gauges and distributions; their names begin with `resnet_jax_`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        ours = {"registry": self._registry, "namespace": "resnet_jax"}
        counter, gauge, histogram = (partial(kind, **ours) for kind in (Counter, Gauge, Histogram))
        self.requests = counter("requests", "Answered requests", ("path", "status"))
        self.in_flight = gauge("requests_in_flight", "Requests that are being answered")
        self.seconds = histogram("request_seconds", "Time until a request is answered", ("path",), buckets=SECONDS)
        self.waiting = gauge("images_waiting", "Images that are being decoded or wait", ("model",))
        self.batches = histogram("batch_images", "Images in a batch", ("model",), buckets=SIZES)
        self.step = gauge("model_step", "Training step of the weights of a run", ("model",))

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
