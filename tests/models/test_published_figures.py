"""`published.csv` holds what an installed torchvision says of its weights, and our networks agree with it."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from resnet_jax.hardware.flops import cost_of
from resnet_jax.models.network import Network
from resnet_jax.models.published import published_figures
from resnet_jax.models.registry import REGISTRY

NETWORKS = [name for name, entry in REGISTRY.items() if entry.torchvision]


def test_the_file_covers_the_registrys_networks_that_torchvision_has_and_no_others():
    assert list(published_figures()) == NETWORKS


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_the_figures_are_those_of_the_installed_torchvision(name):
    models = pytest.importorskip("torchvision").models
    expected = [
        (each.name, *accuracies.values(), each.meta["num_params"], each.meta["_ops"])
        for each in models.get_model_weights(name)
        for accuracies in [each.meta["_metrics"]["ImageNet-1K"]]
    ]
    assert [tuple(figures[:-1]) for figures in published_figures()[name]] == expected


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_parameters_and_multiply_adds_are_ours(name):
    model = Network(name).abstract()
    graphdef, params, others = nnx.split(model, nnx.Param, ...)
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    cost = cost_of(lambda image, *state: nnx.merge(graphdef, *state, copy=True)(image), image, params, others)
    ours = (sum(variable.size for variable in jax.tree.leaves(params)), round(cost.multiply_adds / 1e9, 3))
    for figures in published_figures()[name]:
        assert ours == (figures.parameters, figures.multiply_adds_billions)
