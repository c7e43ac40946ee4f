"""`resnet-jax list`: the networks of this package."""

from rich.console import Console
from rich.table import Table

from resnet_jax.models.published import published_figures
from resnet_jax.models.registry import REGISTRY

TAGS = ("IMAGENET1K_V1", "IMAGENET1K_V2")


def list() -> None:
    """List the networks with their parameters, and the accuracy of their published weights.

    A network's name is a --model.arch. V1 and V2 are torchvision's weights: a MODEL for predict and evaluate is
    torchvision/NETWORK.IMAGENET1K_V1 or _V2. Their accuracy on ImageNet's validation images is the
    one that torchvision publishes.

    Example: resnet-jax list
    """
    table = Table("network", "parameters", "V1, top-1", "V2, top-1", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, entry in REGISTRY.items():
        top1 = {each.weights: f"{each.top1:.2f}%" for each in published_figures().get(name, [])}
        table.add_row(name, f"{entry.parameters:,}", *(top1.get(tag, "") for tag in TAGS))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\nV1 and V2: torchvision/NETWORK.IMAGENET1K_V1 and _V2. Weights of your own: see resnet-jax predict --help"
    )
