"""How Sphinx makes a site of the pages in this folder, which are plain Markdown; CONTRIBUTING.md has the command."""

import re
import tomllib
from inspect import Signature, signature
from pathlib import Path
from shutil import copyfile
from typing import Annotated, get_args, get_origin

from flax import nnx
from jax.typing import DTypeLike
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature
from sphinx.util.typing import stringify_annotation

from resnet_jax import ConvNet, ResNet, config
from resnet_jax.models.registry import Architecture

ROOT = Path(__file__).parent.parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

project = html_title = "resnet_jax"
root_doc = "README"
exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3
smartquotes = False  # they would make a dash of --option
html_show_copyright = False
html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}  # which would leave too little for long words on a phone

default_role = "code"  # docstrings have `names` as in Markdown
autodoc_member_order = "bysource"
maximum_signature_line_length = 100
nitpick_ignore_regex = [
    ("py:.*", r"(?!resnet_jax\.).*"),  # types of other packages
    ("py:class", r"resnet_jax\.(models\.network\.Network|classifier\.pretrained\.TorchModule)"),  # not public
]
SHORTER = {
    f"Literal[{', '.join(map(repr, get_args(Architecture)))}]": "Architecture",
    stringify_annotation(DTypeLike, "smart"): "DTypeLike",
    "jaxlib._jax.Array": "Array",
    "<class 'jax.numpy.float32'>": "jnp.float32",
    "<function kaiming_normal>": "kaiming_normal",
    "<function zeros>": "zeros",
}
"""Types and values in signatures under the names that they have in the code."""


for name, section in vars(config).items():  # options without what is for the command line only
    if name.endswith("Config") and name != "Config":
        kinds = section.__annotations__.items()
        section.__annotations__ = {
            name: get_args(kind)[0] if get_origin(kind) is Annotated else kind for name, kind in kinds
        }


def adapt_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Make the index's lists the contents of the site, and links what they should be there.

    Links with the name of a page show its title, and links out of this folder lead to the repository.
    """
    text = source[0]
    if page == root_doc:
        for section in text.split("\n## ")[1:]:
            title, pages = section.splitlines()[0], re.findall(r"^- \[.+?\]\((.+?)\)", section, re.MULTILINE)
            text += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])
    text = re.sub(r"\[\w+\.md\]\((?=\w)", "[](", text)
    source[0] = text.replace("](../", f"]({REPOSITORY}/blob/main/")


def signature_of(
    app: Sphinx, what: str, name: str, thing: object, options: dict, arguments: str | None, result: str | None
) -> tuple[str, str] | None:
    """Return the signature of a class or function, without that of a base where a network has the same."""
    if isinstance(thing, type) and issubclass(thing, nnx.Module):  # NNX's metaclass hides it
        _self, *parameters = signature(thing.__init__).parameters.values()
        arguments = stringify_signature(Signature(parameters), unqualified_typehints=True)
        if thing not in (ConvNet, ResNet) and issubclass(thing, ConvNet):
            arguments = "(num_classes: int = 1000, **options)"
    if arguments is None:
        return None
    if name.startswith("resnet_jax.config."):
        return "", ""  # the fields follow
    shown = [arguments, result or ""]
    for long, short in SHORTER.items():
        shown = [text.replace(long, short) for text in shown]
    return shown[0], shown[1]


def adapt_attribute(app: Sphinx, what: str, name: str, thing: object, options: dict, lines: list[str]) -> None:
    """Show the options in an attribute's text as code, and keep its colons.

    The text begins with an empty comment, since napoleon would take what is before a colon in its first line as a type.
    """
    if what in ("attribute", "property"):
        lines[:] = ["..", "", *(re.sub(r"(?<!`)--[a-z][\w.-]*\w", r"`\g<0>`", line) for line in lines)]


def name_first_page(app: Sphinx, exception: Exception | None) -> None:
    """Give the first page also the name that web servers look for."""
    if not exception and app.builder.format == "html":
        copyfile(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app: Sphinx) -> None:
    app.connect("source-read", adapt_page)
    app.connect("autodoc-process-signature", signature_of)
    app.connect("autodoc-process-docstring", adapt_attribute, priority=400)  # before napoleon
    app.connect("build-finished", name_first_page)
