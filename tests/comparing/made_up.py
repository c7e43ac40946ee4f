"""Comparisons as the command writes them: sizes and published figures are real, the measured ones are made up."""

import math
from typing import Any

from resnet_jax.models.published import published_figures

COUNTS = {  # parameters and multiply-adds in millions, activations in thousands, at 224 pixels
    "resnet18": (11.690, 1814.1, 2485),
    "squeezenet1_1": (1.235, 349.2, 2589),
    "shufflenet_v2_x1_0": (2.279, 144.9, 1951),
    "mobilenet_v2": (3.505, 300.8, 6679),
    "mobilenet_v3_large": (5.483, 216.6, 4407),
    "regnet_y_400mf": (4.344, 401.8, 3892),
    "mnasnet1_0": (4.383, 314.4, 5458),
    "efficientnet_b0": (5.289, 385.8, 6748),
    "resnet34": (21.798, 3663.8, 3739),
    "resnet50": (25.557, 4089.2, 11115),
    "resnet101": (44.549, 7801.4, 16233),
    "resnet152": (60.193, 11513.6, 22555),
    "wide_resnet50_2": (68.883, 11398.0, 14402),
    "resnext50_32x4d": (25.029, 4230.5, 14402),
    "resnext101_64x4d": (83.455, 15460.3, 31210),
    "alexnet": (61.101, 714.2, 494),
    "vgg11_bn": (132.869, 7609.1, 7435),
    "vgg16_bn": (138.366, 15470.3, 13557),
    "googlenet": (6.625, 1498.4, 3227),
    "densenet121": (7.979, 2834.2, 6900),
    "convnext_tiny": (28.589, 4455.5, 13436),
    "resnet18d": (11.709, 2053.7, 3288),
    "preact_resnet18": (11.688, 1814.1, 2485),
}
SMALL = tuple(COUNTS)[:8]


def comparison(
    archs: tuple[str, ...] = SMALL, *, seeds: int = 0, targets: tuple[str, ...] = (), **limits: float
) -> dict[str, Any]:
    """Return a comparison of some networks.

    Args:
        archs: names of networks.
        seeds: of the training; 0 if nothing is trained.
        targets: machines with ceilings.
        limits: of the recommendation.
    """
    trained = seeds > 0
    settings = {
        **{"image_size": 32 if trained else 224, "batch_size": 128 if trained else None, "stem": "imagenet"},
        **{"classes": 10 if trained else 1000, "repeats": 5, "targets": list(targets)},
        **{"recipe": "configs/digits.py" if trained else None, "seeds": max(seeds, 1)},
        **{"dataset": "digits, 1,437 training and 360 test images" if trained else None},
        **{"epochs": 20 if trained else None, "budget_seconds": None, "pretrained": False},
        **{"max_latency_ms": None, "max_parameters": None, "min_accuracy": None},
    }
    return {
        "machine": {
            **{"processor": "AMD EPYC 7763 64-Core Processor, 2 cores", "device_kind": "cpu", "devices": 1},
            **{"jax_version": "0.10.2", "dtype": "float32", "date": "2026-11-29"},
        },
        "settings": settings | limits,
        "command": "resnet-jax compare --set small"
        + (f" --train configs/digits.py --seeds {seeds}" if trained else ""),
        "networks": [network(arch, seeds, targets) for arch in archs],
    }


def network(arch: str, seeds: int = 0, targets: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the figures of one network."""
    parameters, multiply_adds, activations = (round(value) for value in _counts(arch))
    seconds = 0.002 + 8e-12 * multiply_adds + 3e-10 * activations * (1 + len(arch) % 3)
    return {
        "arch": arch,
        **{"parameters": parameters, "multiply_adds": multiply_adds, "activations": activations},
        **{"weight_bytes": 4 * parameters, "latency_seconds": seconds},
        **{"forward_batch_size": 32, "forward_images_per_second": 1.3 / seconds, "forward_compile_seconds": 2.345},
        **{"train_batch_size": 16, "train_images_per_second": 0.4 / seconds, "train_compile_seconds": 6.1},
        "step_memory_bytes": 70 * activations * 4,
        "ceilings": {
            target: {"images_per_second": 3e10 / (activations * (number + 2)), "bound": "memory", "batch_size": 128}
            for number, target in enumerate(targets)
        },
        "published": [figures._asdict() for figures in published_figures().get(arch, [])],
        "trained": trained(arch, seeds) if seeds else None,
    }


def trained(arch: str, seeds: int) -> dict[str, Any]:
    """Return the figures of training with some seeds."""
    final = 0.985 - 0.03 / math.log10(_counts(arch)[1] / 1e6) - 0.002 * (len(arch) % 5)
    runs = [
        {
            **{"seed": seed, "workdir": f"runs/{arch}-seed{seed}", "accuracy": final + 0.003 * seed, "loss": 0.1},
            **{"calibration_error": 0.012, "seconds": 20.3, "epochs": 20, "steps": 240, "training_seconds": 17.0},
            "curve": [[epoch, final + 0.003 * seed - 0.85 * 0.75**epoch] for epoch in range(1, 21)],
        }
        for seed in range(seeds)
    ]
    return {
        "runs": runs,
        "accuracy_mean": final + 0.0015 * (seeds - 1),
        "accuracy_std": 0.003 if seeds > 1 else None,
        **{"calibration_error_mean": 0.012, "seconds_mean": 20.3, "training_seconds_mean": 17.0},
        "accuracy_per_training_second": final / 17.0,
        "accuracy_per_million_parameters": final / (_counts(arch)[0] / 1e6),
        "accuracy_per_giga_multiply_adds": final / (_counts(arch)[1] / 1e9),
    }


def _counts(arch: str) -> tuple[float, float, float]:
    parameters, multiply_adds, activations = COUNTS[arch]
    return 1e6 * parameters, 1e6 * multiply_adds, 1e3 * activations
