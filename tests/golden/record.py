"""Record what torchvision computes in `tests/golden/*.npz`, so that parity is tested without torch.

Run by hand, in the folder `tests`, with the parity extra installed: `python -m golden.record`. A record holds, for one
network with drawn weights, condensed tensors under `<quantity>/<key>`, in torchvision's layouts (maps are NCHW):

- `eval/logits`, `eval/layer1` to `eval/layer4`: of the first batch, normalized by the running statistics
- `train/logits`, `train/layer1` to `train/layer4`, `train/loss`: of the first batch, normalized by its own statistics
- `gradient/<parameter>`: of that loss
- `trained/<tensor>`: parameters and running statistics after the five steps of SGD
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from golden import draw
from torch import nn

FOLDER = Path(__file__).parent


def record(model: nn.Module, images: np.ndarray, labels: np.ndarray, steps: int = draw.STEPS) -> dict[str, np.ndarray]:
    """Train `model` for `steps` on the first batches, NHWC, and return what a record holds, uncondensed.

    With 0 steps, it holds the evaluation alone.
    """
    batches = [(torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(y)) for x, y in zip(images, labels, strict=True)]
    tensors: dict[str, torch.Tensor] = {}
    mode = ""

    def keep(module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        tensors.setdefault(f"{mode}/{names[module]}", output)

    names = {model.get_submodule(name): name for name in ("layer1", "layer2", "layer3", "layer4")}
    for module in names:
        module.register_forward_hook(keep)
    model.eval()
    mode = "eval"
    tensors["eval/logits"] = model(batches[0][0])
    model.train()
    mode = "train"
    optimizer = torch.optim.SGD(
        model.parameters(), draw.LEARNING_RATE, momentum=draw.MOMENTUM, weight_decay=draw.WEIGHT_DECAY
    )
    for step, (inputs, targets) in enumerate(batches[:steps]):
        optimizer.zero_grad()
        logits = model(inputs)
        loss = nn.functional.cross_entropy(logits, targets)
        loss.backward()
        if step == 0:
            tensors |= {"train/logits": logits, "train/loss": loss}
            tensors |= {f"gradient/{key}": value.grad.clone() for key, value in model.named_parameters()}
        optimizer.step()
    if steps:
        tensors |= {f"trained/{key}": value for key, value in model.state_dict().items() if not key.endswith("tracked")}
    return {key: tensor.detach().numpy() for key, tensor in tensors.items()}


def main() -> None:
    for case in draw.CASES:
        model = torchvision.models.get_model(case.name, num_classes=draw.CLASSES)
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        weights = {key: torch.tensor(value) for key, value in draw.draw_weights(shapes).items()}
        model.load_state_dict(weights, strict=False)  # all but the counters of batches
        tensors = record(model, *draw.draw_batches(case))
        np.savez_compressed(
            FOLDER / f"{case}.npz", **{key: draw.condense(key, value) for key, value in tensors.items()}
        )
        print(f"{case}: {len(tensors)} tensors, torch {torch.__version__}, torchvision {torchvision.__version__}")


if __name__ == "__main__":
    main()
