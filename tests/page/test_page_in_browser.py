"""The page in Chromium, beside a server and exported: photographs get the classes of `predict`, and nothing leaves."""

import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from browser import WIDTHS, needs_chromium, open_page, requests, resize, started_chromium
from PIL import Image
from serving.live import save_network, serving

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.commands.export import export
from resnet_jax.exporting.web import PACKAGE

SECONDS = 60  # until an answer at the latest
GIVE = """
const pixels = Object.assign(document.createElement("canvas"), { width: 60, height: 50 });
pixels.getContext("2d").fillRect(9, 9, 30, 20);
pixels.toBlob((blob) => {
  const data = new DataTransfer(), options = { bubbles: true, dataTransfer: data, clipboardData: data };
  data.items.add(new File([blob], "given.png", { type: "image/png" }));
  const Kind = { drop: DragEvent, paste: ClipboardEvent }[arguments[0]];
  document.body.dispatchEvent(new Kind(arguments[0], options));
});
"""
"""Drops or pastes an image, as its argument says."""
pytestmark = [needs_chromium, pytest.mark.slow]  # starts a server, and downloads 33 MB


class Quiet(SimpleHTTPRequestHandler):
    """A plain server of files that prints nothing."""

    def log_message(self, *arguments):
        pass


@contextmanager
def exported(network: Path, folder: Path):
    """Export a page, and yield its address on a server of files."""
    if shutil.which("npm") is None:
        pytest.skip("needs npm, which fetches onnxruntime-web")
    subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, capture_output=True)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    export(str(network), format="web", out=folder / "page", runtime=folder / "package")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder / "page")) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    return save_network(root / "pets"), save_network(root / "birds", seed=1)


@pytest.fixture(scope="module", params=["server", "browser"])
def page(request, networks, tmp_path_factory):
    """Return the address of a page that classifies on a server or in the browser."""
    if request.param == "browser":
        with exported(networks[0], tmp_path_factory.mktemp("web")) as url:
            yield url
    else:
        with serving(*networks) as server:
            yield f"http://127.0.0.1:{server.port}/"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with started_chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Return 50 parts of photographs as JPEG files, some of them turned as cameras do."""
    folder, rng, paths = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0), []
    for number in range(50):
        with Image.open(files("sklearn") / "datasets" / "images" / ("china.jpg", "flower.jpg")[number % 2]) as whole:
            width, height = rng.integers(80, 400, 2)
            left, top = rng.integers(0, (whole.width - width, whole.height - height))
            part = whole.crop((left, top, left + width, top + height))
        exif = Image.Exif()
        exif[0x0112] = number % 8 + 1
        part.save(folder / f"{number}.jpg", quality=90, exif=exif)
        paths.append(folder / f"{number}.jpg")
    return paths


def answer(browser, name: str) -> str:
    """Wait for the answer for an image, and return what a screen reader then says."""
    from selenium.webdriver.support.wait import WebDriverWait

    status = browser.find_element("id", "status")
    WebDriverWait(browser, SECONDS, 0.02).until(lambda _: status.text.startswith(name))
    return status.text


def choose(browser, path: Path) -> str:
    browser.find_element("id", "image").send_keys(str(path))
    return answer(browser, path.name)


def classes(browser) -> list[str]:
    """Return the classes that are shown, in their order."""
    cells = "return [...document.querySelectorAll('#results td:first-child')].map((cell) => cell.textContent)"
    return browser.execute_script(cells)


def test_fifty_photographs_get_the_classes_of_predict(page, chromium, photographs, networks):
    expected = load_classifier(networks[0]).predict(photographs, top_k=5)
    open_page(chromium, page)
    for path, result in zip(photographs, expected, strict=True):
        assert choose(chromium, path).startswith(f"{path.name}: {result.guesses[0].name}, ")
        assert classes(chromium) == [guess.name for guess in result.guesses], path.name


def test_no_request_leaves_the_address_of_the_page(page, chromium, photographs):
    open_page(chromium, page)
    choose(chromium, photographs[0])
    asked = requests(chromium)
    assert len(asked) >= 4 and all(url.startswith(page) for url in asked)


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_can_be_dropped_and_pasted(page, chromium, way):
    open_page(chromium, page)
    chromium.execute_script(GIVE, way)
    assert "%" in answer(chromium, "given.png") and len(classes(chromium)) == 5


def test_a_picture_of_the_camera_is_classified(page, chromium):
    open_page(chromium, page)
    chromium.find_element("id", "camera").click()
    chromium.implicitly_wait(SECONDS)
    chromium.find_element("css selector", "dialog[open]")
    chromium.execute_async_script(
        "const [video] = document.querySelectorAll('video'), done = arguments[0];"
        "video.videoWidth ? done() : video.addEventListener('resize', () => done());"
    )
    chromium.find_element("id", "shoot").click()
    assert "%" in answer(chromium, "camera.png")
    assert chromium.execute_script("return document.querySelector('video').srcObject.active") is False


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(page, chromium):
    from selenium.webdriver import ActionChains, Keys

    open_page(chromium, page)
    visited = []
    for _ in range(4):
        ActionChains(chromium).send_keys(Keys.TAB).perform()
        focused = chromium.switch_to.active_element
        visited.append(focused.get_attribute("id") or focused.accessible_name)
    assert visited == ["image", "camera", "china.jpg", "flower.jpg"]
    focused.send_keys(Keys.ENTER)
    assert "%" in answer(chromium, "flower.jpg")


def test_every_control_has_a_name_for_screen_readers(page, chromium, photographs):
    open_page(chromium, page)
    choose(chromium, photographs[0])
    controls = [it for it in chromium.find_elements("css selector", "input, select, button") if it.is_displayed()]
    assert len(controls) >= 5 and all(control.accessible_name for control in controls)


def test_the_slider_sets_the_strength_of_the_heat_map(page, chromium, photographs):
    from selenium.webdriver import Keys

    open_page(chromium, page)
    choose(chromium, photographs[0])
    opacity = "return getComputedStyle(document.querySelector('.overlay')).opacity"
    assert chromium.execute_script(opacity) == "1"
    chromium.find_element("css selector", ".heat input").send_keys(Keys.HOME)
    assert chromium.execute_script(opacity) == "0"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(page, chromium, photographs, width):
    resize(chromium, width)
    open_page(chromium, page)
    choose(chromium, photographs[0])
    hidden = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    assert chromium.execute_script(hidden) == 0


def test_what_is_not_an_image_is_told(page, chromium, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    open_page(chromium, page)
    assert "not classified" in choose(chromium, tmp_path / "text.png") and not classes(chromium)


@pytest.mark.parametrize("page", ["server"], indirect=True)
def test_two_models_are_shown_side_by_side(page, chromium, photographs, networks):
    resize(chromium, 1280)
    open_page(chromium, page)
    chromium.find_element("id", "other").send_keys("birds")
    told = choose(chromium, photographs[0])
    names = [load_classifier(path).predict(photographs[0])[0].guesses[0].name for path in networks]
    assert f"pets: {names[0]}, " in told and f"birds: {names[1]}, " in told
    left, right = chromium.find_elements("css selector", "#results section")
    assert left.rect["y"] == right.rect["y"] and left.rect["x"] < right.rect["x"]
