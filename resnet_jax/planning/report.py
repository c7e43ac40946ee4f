"""What `resnet-jax plan` prints, in words."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from resnet_jax.planning.targets import Target

GIB = 2**30
GPU_SENTENCE = (
    "Arithmetic is counted before optimization, since the compiler does not count cuDNN's part. Memory is all that "
    "operations read and write, even what the cache keeps between them: a small batch can be faster."
)
FEEDS = {
    "resident": "its {images:,} images on every chip",
    "stream": "its {images:,} images streamed",
    "ready": "with ready batches as input",
}


def print_part(part: dict[str, Any], figures: dict[str, Any], target: Target) -> None:
    """Print what a part of the answers says; `figures` has the earlier parts as well."""
    console = Console(highlight=False, soft_wrap=True)
    if "fits" in part:
        console.print(
            f"{figures['arch']} for {figures['classes']} classes at {figures['image_size']}x{figures['image_size']} "
            f"pixels on {target.count} x {target.chip.name}, {FEEDS[figures['feed']].format(**figures)}"
        )
        console.print(memory_sentence(figures, target))
    elif "step_seconds" in part:
        console.print(_step_table(figures, target))
        for line in ceiling_sentences(figures, target):
            console.print(line)
    else:
        console.print(largest_sentence(figures))


def _step_table(figures: dict[str, Any], target: Target) -> Table:
    chip, seconds = target.chip, figures["step_seconds"]
    table = Table(
        "a step, each chip", Column("needs", justify="right"), "at", Column("takes", justify="right"), box=SIMPLE_HEAD
    )
    latency = f" and {target.hops * chip.hop_seconds * 1e6:,.0f} µs" if target.hops * chip.hop_seconds else ""
    sent, images = figures["sent_bytes"], figures["counted_batch_size"] / target.count
    for name, need, rate in (
        ("arithmetic", f"{figures['flops'] / 1e9:,.1f} GFLOP", f"{chip.bfloat16_flops / 1e12:,.0f} TFLOP/s"),
        ("memory", f"{figures['traffic_bytes'] / 1e6:,.1f} MB", f"{chip.memory_bandwidth / 1e9:,.0f} GB/s"),
        (
            "network",
            f"{sent / 1e6:,.1f} MB sent in {figures['collectives']} operations",
            f"{chip.network_bandwidth / 1e9:,.0f} GB/s{latency}",
        ),
        ("decoding", f"{images:,.0f} images", f"{figures['decode_rate'] * chip.host_cores:,.0f} images/s"),
    ):
        if name != "decoding" or seconds["decoding"]:
            table.add_row(name, need, rate, f"{seconds[name] * 1e3:,.3f} ms")
    return table


def memory_sentence(figures: dict[str, Any], target: Target) -> str:
    """Say whether the batch fits."""
    return (
        f"A batch of {figures['batch_size']:,} {'fits' if figures['fits'] else 'does not fit'}: "
        f"{'' if figures['fits'] else 'at least '}{figures['memory_bytes'] / GIB:,.2f} GiB on each chip, "
        f"of {figures['limit_bytes'] / GIB:,.2f} GiB "
        + ("that programs may use." if target.is_tpu else "that JAX reserves by default, 75% of a GPU's memory.")
    )


def largest_sentence(figures: dict[str, Any]) -> str:
    """Say which batch is the largest that fits."""
    largest = figures["largest_batch_size"]
    if largest is None:
        return "No batch fits."
    if largest == figures["largest_possible_batch_size"]:
        return f"Any batch that the {figures['images']:,} training images can fill fits."
    return f"The largest batch that fits is about {largest:,}."


def ceiling_sentences(figures: dict[str, Any], target: Target) -> list[str]:
    """Say what follows from the figures, and what they leave out."""
    cost = "" if figures["cost"] is None else f", at a cost of {_digits(figures['cost'])}"
    return [
        f"With batches of {figures['counted_batch_size']:,}: at most {figures['images_per_second_ceiling']:,.0f} "
        f"images/s, limited by {figures['bound']}. {figures['epochs']} epochs ({figures['steps']:,} steps) take "
        f"at least {duration(figures['training_seconds'])}: {_digits(figures['chip_hours'])} chip-hours{cost}.",
        *decoding_sentences(figures),
        *network_sentences(figures, target),
        *([] if target.is_tpu else [GPU_SENTENCE]),
        "This is a ceiling, not a measurement: the work of the compiled step at the rates of the data sheet, with all "
        "parts always busy at the same time. Evaluation is not included" + _input_too(figures) + ".",
    ]


def decoding_sentences(figures: dict[str, Any]) -> list[str]:
    """Say how many processors decode as fast as the chips compute, if images are decoded for each step."""
    if not figures["needed_cores"]:
        return []
    have = f"; their hosts have about {figures['host_cores']:,.0f}" if figures["host_cores"] else ""
    return [
        f"The chips alone could take {figures['images_per_second_of_chips']:,.0f} images/s. Decoding as many takes "
        f"{figures['needed_cores']:,.0f} virtual processors, at {figures['decode_rate']:,.0f} images/s each{have}."
    ]


def network_sentences(figures: dict[str, Any], target: Target) -> list[str]:
    """Say which part of the chips' time the network takes, if there are several chips."""
    if target.count == 1:
        return []
    latency = "" if target.chip.hop_seconds else ", without the operations' latency"
    return [
        f"Exchanging data takes the chips at least {figures['step_seconds']['network'] * 1e3:,.3f} ms{latency}, "
        f"{figures['network_share']:.0%} of their time for a step."
    ]


def _input_too(figures: dict[str, Any]) -> str:
    return ", nor is input" if figures["feed"] != "stream" or not figures["host_cores"] else ""


def duration(seconds: float) -> str:
    """Return a time in the largest unit of which there are at least two."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{_digits(seconds)} seconds"


def _digits(number: float) -> str:
    """Return a number with two decimals, or with two digits if it is below 0.1."""
    return f"{number:,.2f}" if number >= 0.1 else f"{number:.2g}"
