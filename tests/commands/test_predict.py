"""`resnet-jax predict`: what it reads, what it prints, and in which order."""

import csv
import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.commands.images import find_images
from resnet_jax.commands.predict import _shortened, predict
from resnet_jax.errors import UsageError, UserError
from resnet_jax.models.cpu.processor import has_int8, has_onednn
from resnet_jax.models.network import Network
from resnet_jax.models.resnet import ResNet
from resnet_jax.weights.torchvision import torchvision_shapes

NAMES = ("ape", "bee", "cat, domestic", "dog", "eel")
SIZES = Preprocessing(image_size=32, resize=36)
COLUMN, ROW = np.meshgrid(np.arange(48), np.arange(40))
RGB = np.stack([5 * COLUMN, 6 * ROW, 2 * (COLUMN + ROW)], -1).astype(np.uint8)


def draw_network() -> ResNet:
    """Return a small network with weights drawn by NumPy: 9 s faster than JAX, which compiles for every shape."""
    model, rng = Network("resnet18", num_classes=5, stem="cifar", width=4).abstract(), np.random.default_rng(0)
    tensors = {}
    for key, shape in torchvision_shapes(model).items():
        fan_in = np.prod(shape[1:])
        tensors[key] = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.normal(0, fan_in**-0.5, shape)
    load_torchvision(model, tensors)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a small network and six images, one of which is damaged."""
    root = tmp_path_factory.mktemp("predict")
    save_pretrained(draw_network(), root / "net", class_names=NAMES, preprocessing=SIZES)
    (root / "photos" / "inner").mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(root / "photos" / ("inner" if number < 3 else "") / f"{number}.png")
    (root / "photos" / "4.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def by_hand(folder):
    """Return the probabilities of the readable images by name, from the model itself."""
    classifier = load_classifier(folder / "net")
    paths = [path for path in sorted((folder / "photos").rglob("?.png")) if path.name != "4.png"]
    pixels = np.stack([SIZES.decode(path) for path in paths])
    images = (pixels / 255 - np.array(SIZES.mean)) / np.array(SIZES.std)
    probabilities = jax.nn.softmax(nnx.jit(ResNet.__call__)(classifier.model, images.astype(np.float32)))
    return dict(zip((path.name for path in paths), np.asarray(probabilities), strict=True))


@pytest.fixture
def lines(folder, capsys):
    """Return a function that runs the command with --json and returns its exit code and output."""

    def run(*images, **options):
        code = 0
        try:
            predict(str(folder / "net"), tuple(map(str, images)), json=True, **options)
        except SystemExit as end:
            code = end.code
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def command(folder, *arguments, **options):
    line = [sys.executable, "-m", "resnet_jax", "predict", folder / "net", *arguments]
    return subprocess.run(line, capture_output=True, timeout=120, check=False, cwd=folder, **options)


def probabilities(line: dict) -> dict[int, float]:
    return {each["index"]: each["probability"] for each in line["predictions"]}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_predictions_equal_those_of_the_model_at_any_batch_size(folder, lines, by_hand, batch_size):
    _, found = lines(folder / "photos", batch_size=batch_size, dtype="float32")
    for line in found:
        if "error" not in line:
            expected = dict(enumerate(by_hand[os.path.basename(line["path"])]))
            assert probabilities(line) == pytest.approx(expected, abs=1e-5)


def test_predictions_are_the_top_k_in_descending_order_with_their_names(folder, lines):
    _, (line,) = lines(folder / "photos" / "5.png", top_k=3)
    values = list(probabilities(line).values())
    assert len(values) == 3 and values == sorted(values, reverse=True)
    assert all(each["class"] == NAMES[each["index"]] for each in line["predictions"])


def test_a_top_k_above_the_number_of_classes_shows_them_all(folder, lines):
    _, (line,) = lines(folder / "photos" / "5.png", top_k=50)
    assert len(line["predictions"]) == 5


def test_results_have_the_order_of_the_arguments(folder, lines):
    names = [folder / "photos" / name for name in ("5.png", "inner/1.png", "3.png", "inner/0.png", "5.png")]
    _, found = lines(*names, batch_size=2)
    assert [line["path"] for line in found] == list(map(str, names))


def test_a_broken_image_is_reported_in_its_place_and_the_exit_code_is_1(folder, lines):
    code, found = lines(folder / "photos", batch_size=2)
    assert code == 1 and [os.path.basename(line["path"]) for line in found if "error" in line] == ["4.png"]
    assert [os.path.basename(line["path"]) for line in found] == ["3.png", "4.png", "5.png", "0.png", "1.png", "2.png"]


def test_a_truncated_image_is_reported(folder, lines, tmp_path):
    (tmp_path / "cut.png").write_bytes((folder / "photos" / "5.png").read_bytes()[:2000])
    code, (line,) = lines(tmp_path)
    assert code == 1 and "truncated" in line["error"].lower()


def test_a_missing_file_is_reported_beside_the_found_ones(folder, lines):
    code, found = lines(folder / "nothing.png", folder / "photos" / "5.png")
    assert code == 1 and found[0]["error"] == "No such file or directory" and found[1]["predictions"]


def test_a_link_to_nothing_is_reported_as_that(folder, lines, tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    code, found = lines(tmp_path / "gone.png", folder / "photos" / "5.png")
    assert code == 1 and found[0]["error"] == "a broken link" and found[1]["predictions"]


def test_finding_no_image_is_an_error(folder):
    with pytest.raises(UserError, match=r"no image found: got .*none\*\.png"):
        predict(str(folder / "net"), (str(folder / "none*.png"),))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_k": 0}, "--top-k: got 0"),
        ({"batch_size": 0}, "--batch-size: got 0"),
        ({"json": True, "csv": True}, "got both"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        predict("net", ("a.png",), **options)


def test_patterns_that_the_shell_did_not_expand_are_expanded(folder):
    found = find_images([str(folder / "photos" / "**" / "[0-3].png")])
    assert [os.path.relpath(path, folder / "photos") for _, path in found] == [
        "3.png",
        *(f"inner/{number}.png" for number in range(3)),
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "[a].png")
    path = tmp_path / "[a].png"
    assert find_images([str(path)]) == [(str(path), path)]


def test_overlays_of_an_earlier_call_are_not_classified(tmp_path):
    for name in ("a.png", "a.png.gradcam.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    image = (str(tmp_path / "a.png"), tmp_path / "a.png")
    assert find_images([str(tmp_path), str(tmp_path / "*.png")]) == [image, image]


def test_csv_has_a_line_for_each_class_and_for_each_error(folder, capsys):
    with pytest.raises(SystemExit):
        predict(str(folder / "net"), (str(folder / "photos"),), csv=True, top_k=2)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5 * 2 + 1 and [row["rank"] for row in rows[:4]] == ["1", "2", "", "1"]
    assert all(row["class"] == NAMES[int(row["index"])] for row in rows if not row["error"])


@pytest.mark.parametrize("width", [24, 40, 120])
def test_the_table_fits_the_terminal(folder, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit):
        predict(str(folder / "net"), (str(folder / "photos"),))
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= width and any(line.split()[0].endswith("5.png") for line in shown)


def test_a_long_path_is_shortened_from_the_left():
    assert _shortened("photos/holiday/cat.jpg", 9) == "…/cat.jpg"


@pytest.fixture
def photos(folder, tmp_path):
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(RGB).save(tmp_path / name)
    return tmp_path


def test_explain_draws_an_overlay_next_to_each_image(folder, lines, photos):
    lines(photos, explain=True)
    drawn = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.gradcam.png"))
    assert drawn == ["a/1.png.gradcam.png", "b/1.png.gradcam.png"]


def test_explain_dir_keeps_images_of_the_same_name_apart(folder, lines, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("overlays")
    lines(photos, explain_dir=out)
    drawn = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert drawn == ["a/1.png.gradcam.png", "b/1.png.gradcam.png"]


def test_paths_from_a_pipe_are_classified_and_errors_give_exit_code_1(folder):
    names = b"photos/5.png\n\nphotos/4.png\r\nphotos/inner\n"
    result = command(folder, "-", "--json", "--top-k", "1", input=names)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (1, b"")
    assert [line["path"] for line in found] == ["photos/5.png", "photos/4.png"] + [
        f"photos/inner/{number}.png" for number in range(3)
    ]


def test_an_image_from_a_pipe_is_classified_and_explained_under_a_name_of_its_own(folder):
    image = (folder / "photos" / "5.png").read_bytes()
    result = command(folder, "-", "photos/5.png", "--json", "--explain-dir", "drawn", input=image)
    piped, read = (json.loads(line) for line in result.stdout.splitlines())
    assert (result.returncode, piped["path"]) == (0, "standard-input")
    assert piped["predictions"] == [  # up to rounding: the same image at another place in the batch
        guess | {"probability": pytest.approx(guess["probability"], rel=1e-5)} for guess in read["predictions"]
    ]
    assert "standard-input.gradcam.png" in {path.name for path in (folder / "drawn").rglob("*")}


def test_a_closed_pipe_ends_the_command_quietly(folder):
    line = f"{sys.executable} -m resnet_jax predict net {'photos/inner ' * 9} --json --batch-size 1 | head -n 1"
    result = subprocess.run(["bash", "-c", line], capture_output=True, timeout=120, check=True, cwd=folder)
    assert result.stdout.count(b"\n") == 1 and result.stderr == b""


def sixteen_bits(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.astype(np.uint16) * 257)


GRAY = Image.fromarray(RGB).convert("L")
TURNED = Image.Exif()
TURNED[0x0112] = 6  # viewers turn it clockwise
FORMATS = {
    "jpeg": (Image.fromarray(RGB), {"quality": 95}),
    "jpeg, gray": (GRAY, {"quality": 95}),
    "jpeg, CMYK": (Image.fromarray(RGB).convert("CMYK"), {"quality": 95}),
    "jpeg, turned": (Image.fromarray(np.rot90(RGB).copy()), {"exif": TURNED, "quality": 95}),
    "png": (Image.fromarray(RGB), {}),
    "png, gray": (GRAY, {}),
    "png, 16 bits": (sixteen_bits(np.asarray(GRAY)), {}),
    "png, palette": (Image.fromarray(RGB).quantize(256), {}),
    "png, transparent palette": (Image.fromarray(RGB).quantize(256), {"transparency": 0}),
    "png, RGBA": (Image.merge("RGBA", (*Image.fromarray(RGB).split(), GRAY)), {}),
    "png, LA": (Image.merge("LA", (GRAY, GRAY)), {}),
    "tiff, 16 bits": (sixteen_bits(np.asarray(GRAY)), {}),
    "webp": (Image.fromarray(RGB), {"quality": 95}),
    "webp, turned": (Image.fromarray(np.rot90(RGB).copy()), {"exif": TURNED, "lossless": True}),
    "gif": (Image.fromarray(RGB), {}),
    "gif, moving": (Image.fromarray(RGB), {"save_all": True, "append_images": [Image.new("RGB", (48, 40), "red")]}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_reads_as_the_same_picture_from_every_format(tmp_path, name):
    image, options = FORMATS[name]
    image.save(tmp_path / "image", name.split(",")[0], **options)
    Image.fromarray(RGB if image.mode not in ("L", "LA", "I;16") else np.asarray(GRAY)).save(tmp_path / "rgb", "png")
    read, expected = (SIZES.decode(tmp_path / each).astype(int) for each in ("image", "rgb"))
    assert np.abs(read - expected).max() <= 12  # a palette of 256 colors is off by 10, the JPEG of a ramp by 3


def test_a_weights_folder_needs_no_checkpoint_reader_no_data_set_and_no_plots(folder):
    code = (
        "import sys; from resnet_jax.commands.predict import predict; predict('net', ('photos/5.png',));"
        "print({'orbax.checkpoint', 'tensorflow_datasets', 'matplotlib', 'sklearn', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert result.stdout.splitlines()[-1] == "set()"


def test_int8_and_a_type_are_refused_together(folder):
    with pytest.raises(UsageError, match=r"--int8 --dtype float32: got both, expected one of them"):
        predict(str(folder / "net"), (str(folder / "photos"),), dtype="float32", int8=folder / "photos")


@pytest.mark.skipif(not has_onednn() or not has_int8(), reason="needs oneDNN in jaxlib and instructions for int8")
def test_int8_is_refused_for_a_network_of_few_channels(folder):
    with pytest.raises(UserError, match=r"--int8: only 4\d% of the multiply-adds of resnet18"):
        predict(str(folder / "net"), (str(folder / "photos" / "5.png"),), int8=folder / "photos")
