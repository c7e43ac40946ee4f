"""Which logit of a network stands for which class of a data set."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from resnet_jax.classifier.classifier import Classifier
from resnet_jax.errors import UserError


def match_classes(classifier: Classifier, names: Sequence[str]) -> Int[np.ndarray, " classes"]:
    """Return the logit of each class of a data set: by name, or by position if the weights come without names.

    Args:
        classifier: the network.
        names: of the data set's classes, all or some of those that the network knows.

    Raises:
        UserError: a class is unknown to the network.
    """
    known = {name: number for number, name in enumerate(classifier.class_names)}
    unknown = [name for name in names if name not in known]
    if not unknown:
        return np.array([known[name] for name in names], np.int32)
    if not classifier.named and len(names) == len(known):
        return np.arange(len(names), dtype=np.int32)
    missing = [name for name in known if name not in names]
    raise UserError(
        f"the network does not know {len(unknown)} of the data set's {len(names)} classes: {_some(unknown)}; "
        f"{len(missing)} of its own {len(known)} classes are not in the data set: {_some(missing)}. "
        "Give images of its own classes, or rename the classes"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "none"
