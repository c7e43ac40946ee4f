"""Forms of questions and answers, from which both the answers and their OpenAPI document are made."""

from typing import Annotated

import msgspec


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters of `POST /predict`."""

    model: str | None = None
    """Name of the model; the first one by default."""
    top_k: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Number of classes in a result."""
    explain: bool = False
    """Whether to draw where the likeliest class is seen (Grad-CAM)."""


class Prediction(msgspec.Struct):
    """A class and its probability."""

    name: str = msgspec.field(name="class")
    index: int
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)]


class ImageResult(msgspec.Struct, omit_defaults=True):
    """The likeliest classes of an image, the likeliest first, or what is wrong with the image."""

    name: str
    """Name of the file as it was sent, or "#" and its position."""
    predictions: list[Prediction] = []
    step: int | None = None
    """Training step of the weights, if they are those of a run."""
    image: str | None = None
    """The square of the image that the network saw: a PNG file in base64, if Grad-CAM was asked for."""
    overlay: str | None = None
    """The same, enlarged and with Grad-CAM over it."""
    error: str | None = None


class Answer(msgspec.Struct):
    """Results in the order of the images."""

    model: str
    results: list[ImageResult]


class Problem(msgspec.Struct):
    """Why a request was not answered."""

    error: str


class Readiness(msgspec.Struct):
    """Whether all batch sizes of a model are compiled, by its name."""

    models: dict[str, bool]
