"""A trained network with what its user needs, read from a run folder, a folder, a weights file or the hub."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.trained import Trained, read_trained
from resnet_jax.errors import UserError
from resnet_jax.models.convnet import ConvNet
from resnet_jax.models.cpu.processor import Precision
from resnet_jax.models.network import Network
from resnet_jax.models.registry import Architecture
from resnet_jax.weights.identify import has_head
from resnet_jax.weights.torchvision import assign

if TYPE_CHECKING:  # they build on this module
    from resnet_jax.classifier.files import Images, Result
    from resnet_jax.classifier.predictor import Predictor

IMAGENET_CLASSES = Path(__file__).parent / "imagenet_classes.txt"


@dataclass(frozen=True)
class Classifier:
    """A trained network, the names of its classes and the preprocessing of its images."""

    model: ConvNet
    network: Network
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    info: dict[str, Any]
    """Where it comes from: of a run, the configuration, the step and the damaged checkpoints in whose place it was
    read; of a file, what was renamed or left out."""
    named: bool = True
    """Whether the class names come with the weights; otherwise they are ImageNet's or numbers, by their count."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is used of the source, one phrase each: which checkpoint of a run, or which part of a file."""
        if damaged := self.info.get("damaged"):
            return (f"step {self.info['step']:,}, since checkpoint {', '.join(map(str, damaged))} is damaged",)
        best = (f"step {self.info['step']:,}, the best on val",) if self.info.get("best") else ()
        return (*best, *self.info.get("notes", ()))

    def predict(
        self, images: "Images", *, top_k: int | None = None, batch_size: int = 32, dtype: Precision = "float32"
    ) -> list["Result"]:
        """Classify images, which are prepared as in training.

        The network is compiled at the first call, once for each power of 2 up to the batch size that is needed; later
        calls of this classifier use the same programs.

        Args:
            images: one or several of these, in any mixture: path of an image file; image of Pillow; uint8 array
                [height, width], [height, width, 3] or, with an alpha channel, [height, width, 4]. An array
                [n, height, width, 3] is n images. Sizes may differ.
            top_k: number of classes in a result, the likeliest first; all of them by default.
            batch_size: images in a step, over all devices; the results do not depend on it, up to rounding.
            dtype: type of the computation; "auto" is bfloat16 on a CPU with instructions for it, otherwise float32.

        Returns:
            A result for each image, in their order; also for a single one. An image that can't be read does not lose
            the others: its result has no guesses, and the reason in `error`.

        Raises:
            TypeError: one of `images` is nothing of the above.
            ValueError: an array has another type or shape; `top_k` or `batch_size` is below 1.
        """
        from resnet_jax.classifier.files import predict

        return predict(self, images, top_k=top_k, batch_size=batch_size, precision=dtype)

    @cached_property
    def predictors(self) -> dict[tuple, "Predictor"]:
        """Compiled programs of this network; see `resnet_jax.classifier.predictor.predictor_of`."""
        return {}


def load_classifier(source: Path | str, *, arch: Architecture | None = None) -> Classifier:
    """Read a trained network with its class names and preprocessing.

    Args:
        source: a run folder of `train.py`, a folder of `save_pretrained`, timm or transformers, a weights file or a hub
            name; "#NAME" after the last three chooses one of several networks in the file.
        arch: architecture that the weights must have; any by default.

    Raises:
        UserError: there is no such thing, it can't be read, it has no classifier, or JAX can't start its devices.
    """
    return classifier_of(read_trained(source), source, arch)


def classifier_of(trained: Trained, source: Path | str, arch: Architecture | None) -> Classifier:
    """Make the classifier of a stored network; `source` and `arch` as in `load_classifier`.

    Raises:
        UserError: it has another architecture, or no classifier.
    """
    network = trained.network
    if arch is not None and network.arch != arch:
        raise UserError(f"{source} is a {network.arch}, not a {arch}: give its own architecture, or none")
    if not has_head(trained.tensors, network.arch):
        left = "".join(f"; {note}" for note in trained.info["notes"])
        raise UserError(
            f"{source} is the encoder of a {network.arch} without a linear classifier{left}. Train one on your images: "
            f"python train.py --config configs/finetune.py --model.pretrained {source}"
        )
    model = network.abstract()
    assign(model, trained.tensors)
    names, named = trained.class_names, trained.class_names is not None
    return Classifier(
        model, network, names or _class_names(network.num_classes), trained.preprocessing, trained.info, named
    )


def _class_names(count: int) -> tuple[str, ...]:
    """Return ImageNet's names for its number of classes, otherwise numbers."""
    if count == 1000:
        return tuple(IMAGENET_CLASSES.read_text().splitlines())
    return tuple(map(str, range(count)))
