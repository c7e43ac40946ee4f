"""Folders for a model hub, read back bit for bit."""

from pathlib import Path

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.errors import UserError
from resnet_jax.exporting.served import Served
from resnet_jax.weights.torchvision import to_torchvision


def export_safetensors(served: Served, path: Path) -> str:
    """Write a folder with `save_pretrained` and read it back, which must give the same bits."""
    written = served.classifier
    save_pretrained(written.model, path, class_names=written.class_names, preprocessing=written.preprocessing)
    print("checking that it reads back bit for bit", flush=True)
    read = load_classifier(path)
    tensors, again = ({key: it.tobytes() for key, it in to_torchvision(each.model).items()} for each in (written, read))
    same = (written.class_names, written.preprocessing) == (read.class_names, read.preprocessing)
    if not same or tensors != again:
        raise UserError(
            f"{path} differs from what was written when it is read back: the disk may be damaged; give another --out"
        )
    return "read back bit for bit"
