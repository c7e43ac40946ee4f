"""Published files from a server, which runs in the test."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from resnet_jax.errors import UsageError, UserError
from resnet_jax.models.published import published_figures
from resnet_jax.models.registry import REGISTRY
from resnet_jax.weights import published
from resnet_jax.weights.published import FILES, fetch_file

CONTENT = b"weights" * 1000
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return the folder that the server serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(published, "SERVER", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield folder
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once(server):
    (server / NAME).write_bytes(CONTENT)
    first = fetch_file(NAME)
    (server / NAME).unlink()
    assert fetch_file(NAME) == first and first.read_bytes() == CONTENT


def test_a_file_with_another_content_than_its_name_says_is_not_kept(server):
    (server / NAME).write_bytes(CONTENT + b"!")
    with pytest.raises(UserError, match="SHA-256"):
        fetch_file(NAME)
    (server / NAME).write_bytes(CONTENT)
    assert fetch_file(NAME).read_bytes() == CONTENT


def test_a_file_that_the_server_lacks_is_an_error_with_its_address(server):
    with pytest.raises(UserError, match=rf"http://.*/{NAME} could not be downloaded \(.*404.*give its path"):
        fetch_file(NAME)


def test_an_unknown_tag_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"torchvision/mobilenet_v2.IMAGENET1K_V1 or torchvision/mobilenet_v2"):
        published.published("torchvision/mobilenet_v2.V3")


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "torchvision/resnet18.IMAGENET1K_V1", "someone/alexnet"])
def test_names_that_the_hub_has_are_left_to_it(name):
    assert published.published(name) is None


def test_there_is_a_file_for_each_published_accuracy_of_a_network_beside_the_resnets():
    others = {name: entry for name, entry in REGISTRY.items() if entry.family != "resnet"}
    models = {f"{name}.{each.weights}" for name in others for each in published_figures().get(name, [])}
    assert models == {model for model in FILES if model.split(".IMAGENET")[0] in others}


@pytest.mark.parity  # needs torchvision
@pytest.mark.parametrize("model", FILES)
def test_files_and_preprocessing_are_torchvisions(model):
    from torchvision.models import get_model_weights

    arch, tag = model.split(".")
    weights = get_model_weights(arch)[tag]
    ours, theirs = FILES[model], weights.transforms()
    assert weights.url == published.SERVER + ours.file
    assert (ours.resize, ours.interpolation) == (theirs.resize_size[0], theirs.interpolation.value)
    assert (theirs.crop_size, theirs.mean, theirs.std) == ([224], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
