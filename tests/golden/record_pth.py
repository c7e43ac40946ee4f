"""Write small files with `torch.save` into `tests/golden/pth/`, so that reading them is tested without torch.

Run by hand, in the folder `tests`, with torch installed: `python -m golden.record_pth`.
"""

from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "pth"


def content() -> dict:
    """Return every layout that a checkpoint has; `tests/weights/test_pth.py` has the expected values."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state_dict = torch.nn.BatchNorm2d(2).state_dict()
    state_dict |= {
        "transposed.weight": base.T,
        "sliced.weight": base[1:, ::2],
        "bfloat16": torch.tensor([1.5, -2.0, 3.0e38], dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "uint16": torch.tensor([65535], dtype=torch.uint16),
    }
    values = {"shape": torch.Size([1, 2]), "dtype": torch.float32, "device": torch.device("cuda:0"), "set": {1, 2}}
    return {"state_dict": state_dict, "epoch": 3, "best": 0.5, "name": "résumé", "storage": base.storage(), **values}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    torch.save(content(), FOLDER / "zip.pth")
    torch.save(content(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    print(f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
