"""The pictures in docs/ are drawn from the code."""

import re
import runpy
from pathlib import Path

import pytest
from flax import nnx

from resnet_jax import ResNet, ResNet18, ResNet34

DOCS = Path(__file__).parent.parent / "docs"
SCRIPT = runpy.run_path(str(DOCS / "draw_resnet18.py"))


def drawn(network: type[ResNet]) -> str:
    return SCRIPT["draw"](nnx.eval_shape(network))


def test_the_picture_in_the_documentation_is_the_one_of_the_module():
    assert SCRIPT["PATH"].read_text() == drawn(ResNet18)


@pytest.mark.parametrize("network, layers, blocks", [(ResNet18, 18, 8), (ResNet34, 34, 16)])
def test_every_weighted_layer_is_numbered_and_every_block_has_an_arc(network, layers, blocks):
    picture = drawn(network)
    assert re.findall(r'font-weight="bold">(\d+)<', picture) == [str(number) for number in range(1, layers + 1)]
    assert picture.count("q32 0 32 32V") == blocks


def test_the_three_projections_are_dashed():
    arcs = re.findall(r'<path d="M[^"]+q32 0 32 32V[^>]+>', drawn(ResNet18))
    assert ["dasharray" in arc for arc in arcs] == [False, False, True, False, True, False, True, False]


def test_the_picture_of_the_packages_is_the_one_of_their_imports():
    layout = runpy.run_path(str(DOCS / "draw_layout.py"))
    assert layout["PATH"].read_text() == layout["draw"]()
