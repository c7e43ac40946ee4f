"""The HTTP interface: what is at which path, who may use it, and what a client is told when something is wrong."""

import asyncio
import hmac
from collections.abc import Mapping
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from resnet_jax.page.examples import TYPES, Examples
from resnet_jax.page.page import POLICY, render_page
from resnet_jax.serving.answers import Answer, Problem, Query, Readiness
from resnet_jax.serving.batcher import QueueFull
from resnet_jax.serving.limits import Limits
from resnet_jax.serving.metrics import Measured, Metrics
from resnet_jax.serving.model import ServedModel
from resnet_jax.serving.openapi import describe
from resnet_jax.serving.uploads import Uploads, busy


class Api:
    """The handlers of the requests.

    Args:
        models: by the names under which clients know them; the first one is the default.
        limits: on requests.
        token: that a client must have to use the models and read the metrics; nobody needs one if it is None.
        metrics: the figures that are shown.
        examples: images that the page offers.
    """

    def __init__(
        self,
        models: Mapping[str, ServedModel],
        limits: Limits,
        token: str | None,
        metrics: Metrics,
        examples: Examples,
    ):
        self._models, self._limits, self._token, self._metrics = models, limits, token, metrics
        self._examples = examples.images
        self._uploads = Uploads(limits)
        self._page = render_page("server", list(models), examples, token=token is not None)
        self._description = describe(list(models), limits, token is not None, list(examples.images))

    async def page(self, request: Request) -> Response:
        """Answer with the page on which an image can be tried."""
        return HTMLResponse(self._page, headers={"Content-Security-Policy": POLICY})

    async def example(self, request: Request) -> Response:
        """Answer with one of the images that the page offers."""
        name = request.path_params["name"]
        if name not in self._examples:
            raise HTTPException(404, f"there is no example {name!r}, expected one of {', '.join(self._examples)}")
        return Response(self._examples[name], media_type=TYPES[Path(name).suffix.lower()])

    async def openapi(self, request: Request) -> Response:
        """Answer with the description of this interface."""
        return _json(self._description)

    async def health(self, request: Request) -> Response:
        """Answer that the server runs."""
        return Response("ok\n", media_type="text/plain")

    async def readiness(self, request: Request) -> Response:
        """Answer which models are compiled."""
        ready = {name: model.compiled.is_set() for name, model in self._models.items()}
        return _json(Readiness(ready)) if all(ready.values()) else _json(Readiness(ready), 503, {"Retry-After": "1"})

    async def metrics(self, request: Request) -> Response:
        """Answer with the figures, for those with the token."""
        self._authorize(request)
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def predict(self, request: Request) -> Response:
        """Classify the images of a request."""
        self._authorize(request)
        query, received = _query(request), False
        model = self._model(query.model)
        try:
            async with asyncio.timeout(self._limits.seconds), self._uploads.reading(request) as uploads:
                received = True
                results = await model.predict(uploads, query.top_k, query.explain)
        except QueueFull:
            raise busy("the queue is full") from None
        except TimeoutError:
            if received:
                raise busy(f"not done in {self._limits.seconds} seconds") from None
            why = f"the request did not arrive in {self._limits.seconds} seconds"
            raise HTTPException(408, why, {"Connection": "close"}) from None
        return _json(Answer(model.name, results), 200 if any(result.error is None for result in results) else 422)

    def _model(self, name: str | None) -> ServedModel:
        """Return the model that a request is for, if it can take another image."""
        model = self._models.get(name) if name is not None else next(iter(self._models.values()))
        if model is None:
            raise HTTPException(404, f"there is no model {name!r}, expected one of {', '.join(self._models)}")
        if not model.compiled.is_set():
            raise busy(f"{model.name} is still being compiled")
        if model.batcher.taken >= self._limits.queue:
            raise busy("the queue is full")  # before the images are read
        return model

    def _authorize(self, request: Request) -> None:
        if self._token is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            raise HTTPException(401, "expected the server's bearer token", headers={"WWW-Authenticate": "Bearer"})


def make_app(
    models: Mapping[str, ServedModel], limits: Limits, token: str | None, metrics: Metrics, examples: Examples
) -> Starlette:
    """Make the application; the arguments are those of `Api`."""
    api = Api(models, limits, token, metrics, examples)
    routes = [
        Route("/", api.page),
        Route("/examples/{name}", api.example),
        Route("/predict", api.predict, methods=["POST"]),
        Route("/metrics", api.metrics),
        Route("/healthz", api.health),
        Route("/readyz", api.readiness),
        Route("/openapi.json", api.openapi),
    ]
    measured = Middleware(Measured, metrics=metrics, paths=frozenset(route.path for route in routes))
    handlers = {HTTPException: _problem, ClientDisconnect: _gone}
    return Starlette(routes=routes, middleware=[measured], exception_handlers=handlers)


def _query(request: Request) -> Query:
    try:
        return msgspec.convert(dict(request.query_params), Query, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(Query.__struct_fields__)
        raise HTTPException(400, f"{error}; the parameters are {known}") from error


def _json(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(Problem(error.detail), error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it
