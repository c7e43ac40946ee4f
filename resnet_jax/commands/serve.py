"""`resnet-jax serve`: trained networks behind HTTP."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from resnet_jax.commands.loading import load, name_of
from resnet_jax.commands.usage import Models, OptionalFile, OptionalFolder
from resnet_jax.errors import UsageError, UserError, printable
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.serving.limits import Limits

LIMITS = Limits()
EXTRA = ("starlette", "uvicorn", "python_multipart", "prometheus_client")
TOKEN = "RESNET_JAX_TOKEN"


def serve(
    models: Models,
    *,
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1",
    port: int = 8000,
    limits: Limits = LIMITS,
    dtype: Precision = "auto",
    watch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    token_file: OptionalFile = None,
    tls_cert: OptionalFile = None,
    tls_key: OptionalFile = None,
    examples: OptionalFolder = None,
) -> None:
    """Answer HTTP requests for the classes of images, with a page to try it, until Ctrl-C or SIGTERM.

    POST /predict takes images; GET / is the page, /openapi.json describes everything. On SIGTERM, requests that were
    accepted are answered first. Needs the extra `serve`.

    Example: resnet-jax serve runs/pets runs/birds --port 8080

    Args:
        models: run folders, folders of `save_pretrained`, timm or transformers, .pth or .safetensors files, or
            published names (see resnet-jax list). A request chooses one with ?model=, by the last part of its path;
            the first one is the default.
        host: address to listen on; only programs on this machine reach the default. 0.0.0.0 is all addresses.
        port: to listen on; 0 takes a free one.
        limits: limits on the requests.
        dtype: type of the computation; "auto" is bfloat16 on a CPU with instructions for it, otherwise float32.
        watch: take the new weights of a run folder while it trains.
        token_file: file with the token that clients must send (Authorization: Bearer TOKEN). By default the environment
            variable RESNET_JAX_TOKEN; without either, no token is needed.
        tls_cert: certificate in PEM format, for HTTPS.
        tls_key: its private key, if that is in another file.
        examples: folder whose first 12 images the page offers, to everyone who may open it; by default, two photographs
            that come with scikit-learn.

    Raises:
        UsageError: an option's value is out of its range, or a package is missing.
        UserError: a model can't be read, the address is in use, or a file can't be used.
    """
    _check_installed()
    limits.check()
    if not 0 <= port < 1 << 16:
        raise UsageError(f"--port: got {port}, expected 0 to 65535")
    if tls_key and not tls_cert:
        raise UsageError("--tls-key: got a key without a certificate; give --tls-cert too")
    sources, token = _named(models), _token(token_file)
    if watch and not any((Path(model) / "checkpoints").is_dir() for model in models):
        raise UsageError("--watch: got no run folder among the models, expected one that train.py has written")

    from resnet_jax.page.examples import read_examples
    from resnet_jax.serving.server import Tls, address, start

    offered = read_examples(examples)

    with address(host, port) as listener:
        classifiers = {name: (source, load(source, None)) for name, source in sources.items()}
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if tls_cert else 'http'}://{shown}:{listener.getsockname()[1]}"
        print(f"compiling {printable(', '.join(sources))} for {url}", flush=True)
        start(
            classifiers,
            listener,
            limits=limits,
            precision=dtype,
            token=token,
            tls=Tls(tls_cert, tls_key) if tls_cert else None,
            examples=offered,
            reload=watch,
            when_ready=lambda: print(f"ready at {url}; Ctrl-C or SIGTERM ends it", flush=True),
        )


def _check_installed() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"resnet-jax serve: {', '.join(missing)} is not installed; pip install -e '.[serve]' in a checkout of this "
            "project"
        )


def _named(models: Sequence[str]) -> dict[str, str]:
    """Return the models by the names under which clients know them."""
    if not models:
        raise UsageError("got no model, expected one or several; see resnet-jax serve --help")
    named: dict[str, str] = {}
    for source in models:
        name = name_of(source)
        if name in named:
            raise UsageError(f"got {source} and {named[name]}, which are both called {name}: rename one of them")
        named[name] = source
    return named


def _token(file: Path | None) -> str | None:
    """Return the token of the file, or else of the environment."""
    try:
        token = os.environ.get(TOKEN) if file is None else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file: can't read {file} ({error}): give a file with the token") from error
    if token is not None and not token.strip():
        raise UsageError(f"got an empty token, expected characters in {file or TOKEN}")
    return token and token.strip()
