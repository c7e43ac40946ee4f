"""Decoded random-resized crops of the stream feed beside those of torchvision: processor time for each image.

    python tests/peers/crops_pytorch.py FOLDER [--size 224]

FOLDER holds class folders of images. Both decode all of it on one core, in batches of 64: torchvision with the
transforms of its ImageNet recipe and PyTorch's collate, ours to uint8, since flip and normalization are in the training
step, with the extra `fast` if that is installed. Prints one JSON line, with the shortest of five passes, in turns.
Needs the extra `parity`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder

from resnet_jax.data.choice import encoded
from resnet_jax.data.source import open_folder

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crop = transforms.RandomResizedCrop(arguments.size)
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    steps = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
    images = ImageFolder(arguments.folder, transforms.Compose(steps))
    ours = encoded(open_folder(arguments.folder, hold_out=False), arguments.size).test
    rng = np.random.default_rng(0)
    passes: dict[str, Callable] = {
        "torchvision": lambda part: default_collate([images[index] for index in part]),
        "ours": lambda part: np.stack([ours.read_or_replace(index, rng, (0.08, 1.0)).image for index in part]),
    }
    turns = [{name: one_pass(read, len(images)) for name, read in passes.items()} for _ in range(6)][1:]
    print(json.dumps({name: f"{1000 * min(turn[name] for turn in turns):.2f} ms" for name in passes}))


def one_pass(read: Callable, count: int) -> float:
    """Return the processor time for each image."""
    start = time.process_time()
    for first in range(0, count, BATCH):
        read(range(first, min(first + BATCH, count)))
    return (time.process_time() - start) / count


if __name__ == "__main__":
    main()
