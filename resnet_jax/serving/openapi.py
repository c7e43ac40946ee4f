"""The OpenAPI document of the server."""

from typing import Any

import msgspec

import resnet_jax
from resnet_jax.serving.answers import Answer, Problem, Readiness
from resnet_jax.serving.limits import Limits

SCHEMAS = "#/components/schemas/"
BINARY = {"type": "string", "format": "binary"}


def describe(models: list[str], limits: Limits, token: bool, examples: list[str]) -> dict[str, Any]:
    """Return the document.

    Args:
        models: names of the models.
        limits: on requests.
        token: whether clients need one.
        examples: names of the images that the page offers.
    """
    _, components = msgspec.json.schema_components((Answer, Problem, Readiness), ref_template=SCHEMAS + "{name}")
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Image classification", "version": resnet_jax.__version__},
        "paths": {
            "/predict": {"post": _predict(models, limits, token)},
            "/": {"get": _get("A page on which an image can be tried", {"text/html": {}})},
            "/examples/{name}": {"get": _example(examples)},
            "/healthz": {"get": _get("Whether the server runs", {"text/plain": {}})},
            "/readyz": {"get": _get("Whether all batch sizes are compiled", _of("Readiness"))},
            "/metrics": {"get": _get("Figures for Prometheus", {"text/plain": {}})},
            "/openapi.json": {"get": _get("This document", {"application/json": {}})},
        },
        "components": {"schemas": components},
    }
    document["paths"]["/readyz"]["get"]["responses"]["503"] = _again("Not yet", "Readiness")
    if token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, method in (("/predict", "post"), ("/metrics", "get")):
            document["paths"][path][method] |= {"security": [{"token": []}]}
        document["paths"]["/metrics"]["get"]["responses"]["401"] = _problem("The token is missing or wrong")
    return document


def _predict(models: list[str], limits: Limits, token: bool) -> dict[str, Any]:
    form = {"type": "object", "properties": {"image": {"type": "array", "items": BINARY, "minItems": 1}}}
    problems = {
        "400": "A parameter or the form is wrong",
        "404": "There is no such model",
        "408": f"The request did not arrive in {limits.seconds} seconds",
        "413": f"The body has more than {limits.megabytes} megabytes",
        "415": "The body has another type",
    } | ({"401": "The token is missing or wrong"} if token else {})
    return {
        "summary": "Classify one or several images",
        "parameters": [
            _parameter("model", {"enum": models, "default": models[0]}, "The model"),
            _parameter("top_k", {"type": "integer", "minimum": 1, "default": 5}, "Number of classes in a result"),
            _parameter("explain", {"type": "boolean", "default": False}, "Draw Grad-CAM over each image"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form | {"required": ["image"]}},
                "image/*": {"schema": BINARY},
                "application/octet-stream": {"schema": BINARY},
            },
        },
        "responses": {
            "200": {
                "description": "A result for each image, of which some may have an error",
                "content": _of("Answer"),
            },
            "422": {"description": "No image could be read", "content": _of("Answer")},
            "503": _again("Too many images wait, or the model is not compiled yet", "Problem"),
            **{status: _problem(why) for status, why in problems.items()},
        },
    }


def _example(names: list[str]) -> dict[str, Any]:
    found = _get("An image that the page offers", {"image/*": {}})
    name = {"name": "name", "in": "path", "required": True, "schema": {"enum": names}}
    return found | {"parameters": [name], "responses": found["responses"] | {"404": _problem("There is none")}}


def _get(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}}}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _of(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": SCHEMAS + name}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _of("Problem")}


def _again(description: str, name: str) -> dict[str, Any]:
    seconds = {"description": "Seconds until the next try", "schema": {"type": "integer"}}
    return {"description": description, "content": _of(name), "headers": {"Retry-After": seconds}}
