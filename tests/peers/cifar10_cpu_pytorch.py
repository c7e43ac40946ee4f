"""The recipe of configs/cifar10_cpu.py written in PyTorch, to compare ours with.

    python tests/peers/cifar10_cpu_pytorch.py --seed 0 [--data-dir DIR] [--epochs N]

Prints one JSON line with the test accuracy. Needs the extra `parity`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, ResNet

from resnet_jax.data.memory import load
from resnet_jax.data.resident import channel_statistics
from resnet_jax.data.source import open_tfds

WIDTH, BATCH, PADDING, MOMENTUM = 16, 64, 2, 0.95
PEAK, DECAY, MUON_PEAK, MUON_DECAY, NEWTON_SCHULZ_STEPS = 0.1, 5e-4, 0.02, 0.02, 3


class CifarResNet18(ResNet):
    """torchvision's ResNet-18 with the 3x3 stem and another width."""

    def __init__(self, width: int, num_classes: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.inplanes = width
        self.conv1, self.bn1, self.maxpool = (
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.Identity(),
        )
        for stage in range(4):
            layer = self._make_layer(BasicBlock, width * 2**stage, 2, stride=1 if stage == 0 else 2)
            setattr(self, f"layer{stage + 1}", layer)
        self.fc = nn.Linear(width * 8, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def augmented(images: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Mirror where `flips`, then shift each image by up to PADDING pixels, edges reflected."""
    size, count = images.shape[-1], len(images)
    images = torch.where(flips[:, None, None, None], images.flip(-1), images)
    padded = functional.pad(images, (PADDING,) * 4, mode="reflect")
    rows, columns = torch.randint(0, 2 * PADDING + 1, (2, count, 1)) + torch.arange(size)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def schedule(step: int, total: int) -> float:
    """Compute the learning rate as a share of its peak."""
    warmup = round(0.2 * total)
    return 0.2 + 0.8 * step / warmup if step < warmup else (total - step) / (total - warmup)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Apply Muon's Newton-Schulz iterations: singular vectors do not change, singular values come near 1."""
    matrix = matrix / (matrix.norm() + 1e-8)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for convolutions; torch.optim.Muon is for matrices."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                momentum = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
                momentum.mul_(MOMENTUM).add_(kernel.grad)
                matrix = (kernel.grad + MOMENTUM * momentum).reshape(len(kernel), -1)
                update = orthogonalized(matrix if len(matrix) <= matrix.shape[1] else matrix.T)
                update = update if len(matrix) <= matrix.shape[1] else update.T
                kernel.mul_(1 - group["lr"] * MUON_DECAY).sub_(update.reshape(kernel.shape), alpha=group["lr"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    data = load(open_tfds("cifar10", arguments.data_dir), None)
    mean, std = (torch.tensor(values)[:, None, None] for values in channel_statistics(data.train.images))

    def tensors(split):
        images = torch.from_numpy(np.array(split.images)).permute(0, 3, 1, 2).float()
        images = ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        return images, torch.from_numpy(np.array(split.labels)).long()

    (images, labels), (test_images, test_labels) = tensors(data.train), tensors(data.test)
    model = CifarResNet18(WIDTH, 10).to(memory_format=torch.channels_last)
    convolutions, matrices, vectors = ([p for p in model.parameters() if p.ndim == ndim] for ndim in (4, 2, 1))
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, lr=PEAK, momentum=MOMENTUM, nesterov=True)
    muon = Muon(convolutions, {"lr": MUON_PEAK})
    first_flip = torch.rand(len(images)) < 0.5
    total, step, start = arguments.epochs * (len(images) // BATCH), 0, time.monotonic()
    for epoch in range(arguments.epochs):
        model.train()
        for indices in torch.randperm(len(images))[: len(images) // BATCH * BATCH].view(-1, BATCH):
            for optimizer, peak in ((sgd, PEAK), (muon, MUON_PEAK)):
                for group in optimizer.param_groups:
                    group["lr"] = peak * schedule(step, total)
            batch = augmented(images[indices], first_flip[indices] ^ (epoch % 2 == 1))
            model.zero_grad()
            functional.cross_entropy(
                model(batch.contiguous(memory_format=torch.channels_last)), labels[indices]
            ).backward()
            sgd.step()
            muon.step()
            step += 1
        print(f"epoch {epoch + 1} after {time.monotonic() - start:.0f} s", flush=True)
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(part) for part in test_images.split(500)])
        mirrored = torch.cat([model(part) for part in test_images.flip(-1).split(500)])
    figures = {
        "seed": arguments.seed,
        "test_accuracy": (logits.argmax(1) == test_labels).float().mean().item(),
        "test_accuracy_tta_flip": ((logits + mirrored).argmax(1) == test_labels).float().mean().item(),
        "test_loss": functional.cross_entropy(logits, test_labels).item(),
        "seconds": time.monotonic() - start,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
