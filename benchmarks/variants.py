"""Measure a choice of the training step against its alternative, in turns, or the stream feed's rate.

    python benchmarks/variants.py layouts|recompute|stream [--tiny]

layouts: the compiler chooses how the weights are laid out in memory, or they stay as they are written.
recompute: feature maps between convolutions are computed again in the backward pass, or kept.
stream: images/s of training on photographs that are decoded for each step; 2,000 JPEGs of 500x375 are written first.
Prints one line. --tiny is for trying it on a CPU.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from rich.console import Console

from resnet_jax.benchmarking.measure import Work, measure
from resnet_jax.benchmarking.workload import Workload, repeated
from resnet_jax.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from resnet_jax.hardware.compiled import memory_of
from resnet_jax.training.loop import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["layouts", "recompute", "stream"])
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    print({"layouts": layouts, "recompute": recompute, "stream": stream}[arguments.variant](arguments.tiny))


def made(tiny: bool, *, recompute: bool = False) -> Workload:
    """Return the work of training on images of 224 pixels."""
    size = 16 if tiny else 224
    network = ModelConfig(stem="imagenet", width=8 if tiny else 64, recompute=recompute)
    return Workload(network, num_classes=1000, batch_size=16 if tiny else 256, image_size=size)


def layouts(tiny: bool) -> str:
    workload = made(tiny)
    return compared({"chosen": workload.train, "as written": as_written(workload)}, 1 if tiny else 5)


def as_written(workload: Workload) -> Work:
    """Return training steps whose state keeps the layouts that JAX gives arrays by default."""
    state, batch = jax.tree.map(jnp.copy, workload._state), workload._batch
    program = jax.jit(workload.run.program.train_step, donate_argnums=0)

    def step():
        nonlocal state
        state, metrics = program(state, batch)
        return metrics

    return repeated(step)


def recompute(tiny: bool) -> str:
    kept, again = made(tiny), made(tiny, recompute=True)
    speeds = compared({"kept": kept.train, "computed again": again.train}, 1 if tiny else 5)
    memory = " and ".join(f"{memory_of(it.train_program) / 1e9:.2f}" for it in (kept, again))
    return f"{speeds}; {memory} GB"


def compared(works: dict[str, Work], repeats: int) -> str:
    """Return the milliseconds of a step of each, medians of repeats in turns."""
    timings = measure(works, repeats)
    return ", ".join(f"{name} {1e3 * timing.median:.2f} ms" for name, timing in timings.items())


def stream(tiny: bool) -> str:
    width, height, count = (50, 38, 100) if tiny else (500, 375, 1000)
    with tempfile.TemporaryDirectory() as folder:
        for label in ("first", "second"):
            write_photos(Path(folder, "photos", label), width, height, count)
        config = Config(
            model=ModelConfig(stem="imagenet", width=8 if tiny else 64),
            data=DataConfig(source="folder", dir=Path(folder, "photos"), feed="stream", image_size=16 if tiny else 224),
            augment=AugmentConfig(crop_scale=0.25, flip="random"),
            train=TrainConfig(epochs=4 if tiny else 20, batch_size=16 if tiny else 256),
        )
        summary = train(config, Path(folder, "run"), console=Console(stderr=True))
    return f"{summary['images_per_second']:,.0f} images/s, {summary['waiting_share']:.0%} of the time waiting for them"


def write_photos(folder: Path, width: int, height: int, count: int) -> None:
    """Write JPEGs of smooth noise, about as large as photographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)


if __name__ == "__main__":
    main()
