"""`Classifier.predict`: images of any kind, with the probabilities of the network itself."""

from importlib.util import find_spec

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from resnet_jax.classifier import predictor as module
from resnet_jax.classifier.classifier import Classifier
from resnet_jax.classifier.preprocessing import Preprocessing
from resnet_jax.models.network import Network

NETWORK = Network("resnet18", num_classes=3, stem="cifar", width=4)
NAMES = ("cat", "dog", "emu")
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown turned clockwise


def make() -> Classifier:
    model = nnx.jit(lambda: NETWORK.build(rngs=nnx.Rngs(0)))()
    return Classifier(model, NETWORK, NAMES, Preprocessing(image_size=8, resize=9), {})


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return make()


@pytest.fixture
def compiled(monkeypatch) -> list[tuple[int, ...]]:
    """Return a list that gets the shape of the images each time that a forward pass is traced."""
    shapes: list[tuple[int, ...]] = []
    original = module.averaged_logits

    def averaged_logits(model, images, *rest):
        shapes.append(images.shape)
        return original(model, images, *rest)

    monkeypatch.setattr(module, "averaged_logits", averaged_logits)
    return shapes


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


def shares(result) -> dict[str, float]:
    assert result.error is None
    return {guess.name: guess.probability for guess in result.guesses}


@pytest.fixture(scope="module")
def expected(classifier, path) -> dict[str, float]:
    """Return the probabilities of `PIXELS` from the model itself."""
    images = classifier.preprocessing.normalize(classifier.preprocessing.decode(path)[None])
    logits = nnx.jit(lambda model, images: model(images))(classifier.model, images)
    return dict(zip(NAMES, jax.nn.softmax(logits[0]).tolist(), strict=True))


def test_paths_pillow_images_and_arrays_in_any_mixture_have_the_models_probabilities(classifier, path, expected):
    with Image.open(path) as opened:
        images = [path, str(path), opened, Image.fromarray(PIXELS), PIXELS, np.dstack([PIXELS, PIXELS[..., 0]])]
        results = classifier.predict([*images, jax.numpy.asarray(PIXELS)])
    assert len(results) == 7 and all(shares(result) == pytest.approx(expected, abs=1e-5) for result in results)
    assert [result.path for result in results] == [str(path), str(path), "#2", "#3", "#4", "#5", "#6"]


@pytest.mark.parametrize("kind", [lambda path: path, str, Image.open, lambda path: PIXELS])
def test_a_single_image_gives_a_list_of_one_result(classifier, path, expected, kind):
    (result,) = classifier.predict(kind(path))
    assert shares(result) == pytest.approx(expected, abs=1e-5)


def test_an_array_of_four_axes_is_as_many_images(classifier, expected):
    assert list(map(shares, classifier.predict(np.stack([PIXELS] * 3)))) == [pytest.approx(expected, abs=1e-5)] * 3


def test_a_gray_array_is_the_same_image_in_three_channels(classifier):
    gray, colored = classifier.predict([PIXELS[..., 0], PIXELS[..., :1].repeat(3, -1)])
    assert shares(gray) == pytest.approx(shares(colored))


def test_the_guesses_are_the_likeliest_classes_in_falling_order(classifier, expected):
    (result,) = classifier.predict(PIXELS, top_k=2)
    assert [guess.name for guess in result.guesses] == sorted(NAMES, key=lambda name: -expected[name])[:2]
    assert all(NAMES[guess.number] == guess.name for guess in result.guesses)


def test_an_image_that_cannot_be_read_has_its_reason_and_the_others_their_classes(classifier, path, tmp_path):
    (tmp_path / "broken.png").write_bytes(path.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no image")
    with Image.open(tmp_path / "broken.png") as lazy:
        results = classifier.predict([tmp_path / "broken.png", path, lazy, tmp_path / "text.png", "no.png", PIXELS])
    assert [result.error is None for result in results] == [False, True, False, False, False, True]
    assert "truncated" in results[0].error and results[4].error == "No such file or directory"


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_a_photograph_in_heic_has_the_remedy_in_its_reason(classifier, tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (result,) = classifier.predict(tmp_path / "IMG_1.HEIC")
    assert "JPEG" in result.error and "pillow-heif" in result.error


def test_no_image_gives_no_result(classifier):
    assert classifier.predict([]) == []


@pytest.mark.parametrize(
    "image",
    [PIXELS / 255, PIXELS.astype(np.int32), PIXELS[..., :2], np.zeros(4, np.uint8)],
    ids=lambda it: str(it.shape),
)
def test_an_array_that_is_not_an_image_is_refused_with_its_type_and_shape(classifier, path, image):
    with pytest.raises(ValueError, match=rf"#1: got an array of {image.dtype} \({image.shape[0]},.*expected uint8"):
        classifier.predict([path, image])


@pytest.mark.parametrize("option", ["top_k", "batch_size"])
def test_an_option_below_1_is_named(classifier, option):
    with pytest.raises(ValueError, match=f"{option}: got 0"):
        classifier.predict(PIXELS, **{option: 0})


def test_an_image_in_memory_is_turned_upright_and_stays_as_it_is(classifier, expected, tmp_path):
    Image.fromarray(np.rot90(PIXELS).copy()).save(tmp_path / "turned.png", exif=TURNED)
    with Image.open(tmp_path / "turned.png") as image:
        (result,) = classifier.predict(image)
        assert image.size == (12, 16) and image.getexif()[0x0112] == 6
    assert shares(result) == pytest.approx(expected, abs=1e-5)


def test_repeated_calls_compile_nothing_again(compiled):
    """Eight devices share a batch here, so the smallest one has 8 images."""
    classifier = make()
    for count in (3, 3, 1, 8, 2):
        classifier.predict([PIXELS] * count)
    assert compiled == [(8, 8, 8, 3)]
    for count in (9, 20, 16, 1):
        classifier.predict([PIXELS] * count, batch_size=16)
    assert compiled == [(8, 8, 8, 3), (16, 8, 8, 3)]


def test_weights_that_have_changed_are_used(classifier):
    changed = make()
    before = shares(changed.predict(PIXELS)[0])
    changed.model.fc.bias[...] = np.array([0.0, 9.0, 0.0], np.float32)
    assert shares(changed.predict(PIXELS)[0])["dog"] > 0.99 > before["dog"]
