"""Settings of a ResNet that Hugging Face's transformers has saved: architecture, class names and preprocessing."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from resnet_jax.classifier.preprocessing import Preprocessing, Share
from resnet_jax.data.reading.images import Interpolation
from resnet_jax.json_files import Finite, Pixels, Positive, check_json, read_json

REMEDY = "give the weights file alone, with ImageNet's preprocessing, or convert the model with its author's program"
RESAMPLINGS: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # of Pillow


Number = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}$")]


class ResNetConfig(msgspec.Struct):
    """The entries of `config.json` that this package's networks depend on, with the only values that they have."""

    model_type: Literal["resnet"]
    hidden_act: Literal["relu"] = "relu"
    num_channels: Literal[3] = 3
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False
    id2label: dict[Number, str] | None = None

    def __post_init__(self) -> None:
        if self.downsample_in_first_stage or self.downsample_in_bottleneck:
            raise ValueError("expected downsample_in_first_stage and downsample_in_bottleneck to be false")


class Edge(msgspec.Struct):
    """Length to which the shorter side is resized, pixels."""

    shortest_edge: Pixels


class Square(msgspec.Struct):
    """Size of the part that is cropped from the center, pixels."""

    height: Pixels
    width: Pixels


class Processor(msgspec.Struct):
    """The entries of `preprocessor_config.json`."""

    image_mean: tuple[Finite, Finite, Finite]
    image_std: tuple[Positive, Positive, Positive]
    size: Pixels | Edge
    crop_size: Pixels | Square | None = None
    crop_pct: Share | None = None
    resample: Literal[2, 3] = 2
    rescale_factor: Annotated[float, msgspec.Meta(ge=0.0039, le=0.00393)] = 1 / 255
    do_resize: bool = True
    do_rescale: bool = True
    do_normalize: bool = True

    def __post_init__(self) -> None:
        if not (self.do_resize and self.do_rescale and self.do_normalize):
            raise ValueError("expected do_resize, do_rescale and do_normalize to be true")


def read_settings(path: Path, config: Any) -> tuple[list[str] | None, Preprocessing]:
    """Read class names and preprocessing of a folder that transformers has saved.

    ConvNextImageProcessor, which the published ResNets use, resizes the shorter side to `size / crop_pct` and crops the
    center (transformers/models/convnext/image_processing_convnext.py); processors with `crop_size` name both lengths.

    Args:
        path: the folder.
        config: content of its `config.json`.

    Returns:
        The class names by their numbers, if there are any; and the preprocessing for evaluation.

    Raises:
        UserError: it is another network, or one with an option or a preprocessing that this package does not have.
    """
    settings: ResNetConfig = check_json(config, ResNetConfig, f"{path / 'config.json'} of transformers", REMEDY)
    file = path / "preprocessor_config.json"
    processor: Processor = read_json(file, Processor, REMEDY)
    edge = processor.size.shortest_edge if isinstance(processor.size, Edge) else processor.size
    crop = processor.crop_size.height if isinstance(processor.crop_size, Square) else processor.crop_size
    if crop is None:
        crop, edge = edge, int(edge / (processor.crop_pct or 224 / 256))
    labels = settings.id2label
    names = None if labels is None else [labels[number] for number in sorted(labels, key=int)]
    return names, Preprocessing(processor.image_mean, processor.image_std, crop, edge, RESAMPLINGS[processor.resample])
