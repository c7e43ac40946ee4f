"""What `resnet-jax predict` does, as a plain torchvision loop, to compare its speed with.

    python tests/peers/predict_pytorch.py FOLDER [--weights FILE.pth] [--count N] [--batch-size N] [--bfloat16]

ResNet-18 at 224 pixels over the images of a folder. Prints one JSON line: images per second from the first file opened
to the last class found, without the imports; and the classes. Needs the extra `parity`.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import resnet18


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--bfloat16", action="store_true", help="under autocast, channels last")
    arguments = parser.parse_args()
    model = resnet18().eval()
    if arguments.weights:
        model.load_state_dict(torch.load(arguments.weights, weights_only=True))
    if arguments.bfloat16:
        model = model.to(memory_format=torch.channels_last)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    transform = transforms.Compose(steps)
    paths, classes = sorted(arguments.folder.iterdir())[: arguments.count], []
    start = time.perf_counter()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
        for first in range(0, len(paths), arguments.batch_size):
            batch = paths[first : first + arguments.batch_size]
            images = torch.stack([transform(Image.open(path).convert("RGB")) for path in batch])
            classes += model(images).softmax(1).argmax(1).tolist()
    seconds = time.perf_counter() - start
    print(json.dumps({"images_per_second": len(paths) / seconds, "seconds": seconds, "classes": classes}))


if __name__ == "__main__":
    main()
