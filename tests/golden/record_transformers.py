"""Records small ResNets of Hugging Face's transformers as folders in `tests/golden/transformers`.

Run by hand, in the folder `tests`, with transformers, torch and torchvision installed:
`python -m golden.record_transformers`. Beside what transformers saves, a folder has `recorded.npz`: an image, the
pixels that its processor makes of it, NCHW, and their logits.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

FOLDER = Path(__file__).parent / "transformers"
NAMES = {0: "tench", 1: "goldfish", 2: "great white shark"}
NETWORKS = {
    "basic": ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 16, 32], depths=[2, 2, 2, 2], layer_type="basic", id2label=NAMES
    ),
    "bottleneck": ResNetConfig(
        embedding_size=2, hidden_sizes=[8, 16, 32, 64], depths=[3, 4, 6, 3], layer_type="bottleneck", id2label=NAMES
    ),
}


def main() -> None:
    for name, config in NETWORKS.items():
        path = FOLDER / name
        shutil.rmtree(path, ignore_errors=True)
        model = ResNetForImageClassification(config).eval()
        generator = torch.Generator().manual_seed(0)
        for key, tensor in model.state_dict().items():  # so that no term is hidden by a 0 or a 1
            if tensor.ndim == 1:
                tensor.uniform_(*((0.5, 1.5) if key.endswith(("var", "weight")) else (-0.5, 0.5)), generator=generator)
        model.save_pretrained(path, **({"max_shard_size": "40KB"} if name == "bottleneck" else {}))
        processor = ConvNextImageProcessor(size={"shortest_edge": 56}, crop_pct=0.875, resample=3)
        processor.image_mean, processor.image_std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        processor.save_pretrained(path)
        waves = np.sin(np.arange(90)[:, None, None] / 9 + np.arange(120)[None, :, None] / 13 + np.arange(3))
        image = ((waves + 1) * 127.5).round().astype(np.uint8)
        pixels = processor(Image.fromarray(image), return_tensors="pt").pixel_values
        with torch.no_grad():
            logits = model(pixels).logits
        np.savez_compressed(path / "recorded.npz", image=image, pixels=pixels.numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
