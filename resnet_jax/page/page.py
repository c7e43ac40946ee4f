"""The page on which an image can be tried: beside a server, or with a network that runs in the browser."""

from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from resnet_jax.page.examples import Examples

# The page has its style and script inside, and may ask nobody but the address that it comes from.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
    "img-src 'self' data: blob:; connect-src 'self'"
)


def render_page(
    backend: Literal["server", "browser"],
    models: Sequence[str],
    examples: Examples,
    *,
    token: bool = False,
    **values: Any,
) -> str:
    """Return the page as HTML.

    Args:
        backend: who classifies.
        models: names of the models; the first one is the default.
        examples: images that it offers, at their names in the folder `examples` beside it.
        token: whether the server needs a token.
        values: what the script of the backend needs.
    """
    loader = PackageLoader("resnet_jax.page", "template")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("index.html")
    return template.render(backend=backend, models=models, examples=examples, token=token, policy=POLICY, **values)
