"""What one client of the server may ask of it."""

from dataclasses import dataclass

from resnet_jax.errors import at_least


@dataclass(frozen=True)
class Limits:
    """Limits on the requests to a server."""

    megabytes: int = 20
    """Largest body of a request, megabytes; all bodies together hold at most 16 times as much."""
    megapixels: int = 50
    """Largest image, millions of pixels."""
    seconds: int = 30
    """Longest time until a request is answered, seconds: sending it, waiting and computing together."""
    queue: int = 128
    """Images of a model that may be decoded or wait at the same time; requests beyond it are answered with 503."""

    def check(self) -> None:
        """Raise a `UsageError` for a limit below 1."""
        at_least(1, **{f"limits.{name}": value for name, value in vars(self).items()})
