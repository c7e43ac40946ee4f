"""Published weights by name."""

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.classifier.pretrained import load_torchvision
from resnet_jax.classifier.saving import save_pretrained
from resnet_jax.errors import UsageError, UserError
from resnet_jax.models.network import Network
from resnet_jax.weights import hub
from resnet_jax.weights.torchvision import torchvision_shapes


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("torchvision/resnet18.IMAGENET1K_V1", "timm/resnet18.tv_in1k"),
        ("torchvision/wide_resnet50_2.IMAGENET1K_V2", "timm/wide_resnet50_2.tv2_in1k"),
    ],
)
def test_torchvisions_weights_come_from_timms_repositories(name, repository):
    assert hub.repository(name) == repository


def test_an_unknown_tag_of_torchvision_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"torchvision/resnet18\.IMAGENET1K_V1 or "):
        hub.repository("torchvision/resnet18.V3")


@pytest.mark.parametrize("path", ["weights.pth", "./timm/resnet18", "/timm/resnet18", "a/b/c", "weights/"])
def test_a_path_is_not_a_hub_name(path):
    assert not hub.is_name(path)


def test_a_name_whose_owner_is_a_folder_here_is_a_path_even_if_it_is_mistyped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_name("models/one")
    (tmp_path / "models").mkdir()
    assert not hub.is_name("models/one") and "models is a folder here" in hub.why_path("models/one")


def test_a_run_folder_is_a_path_wherever_its_mistyped_name_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not hub.is_name("runs/frist")
    with pytest.raises(UserError, match=r"no file or folder runs/frist .*no published name was looked up"):
        load_classifier("runs/frist")


def test_a_weights_file_that_does_not_exist_is_a_path():
    assert not hub.is_name("weigths/model.pth") and not hub.is_name("weigths/model.safetensors")


def fetching(tmp_path, **variables: str) -> str:
    """Fetch a model in a new process, with variables of the environment; return what is on its standard error."""
    code = (
        "from resnet_jax import entry; from resnet_jax.classifier.classifier import load_classifier;"
        "entry.run(lambda: load_classifier('torchvision/resnet18.IMAGENET1K_V1'))"
    )
    env = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"} | variables
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    return result.stderr


def test_offline_the_message_says_so_and_following_it_works(tmp_path):
    message = fetching(tmp_path, HF_HUB_OFFLINE="1")
    assert message.count("\n") == 1 and "HF_HUB_OFFLINE" in message
    files = re.findall(r"https://\S+/timm/resnet18\.tv_in1k/resolve/main/(\S+)", message)
    put_network(tmp_path / "published")
    (tmp_path / "folder").mkdir()
    for file in files:  # "put them into one folder, and give its path"
        (tmp_path / "published" / file).rename(tmp_path / "folder" / file)
    assert len(load_classifier(tmp_path / "folder").class_names) == 5


@pytest.fixture
def silent():
    """Return the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow  # waits
def test_a_proxy_that_never_answers_is_given_up_with_one_message_that_has_both_readings(tmp_path, silent):
    message = fetching(tmp_path, https_proxy=silent, HTTPS_PROXY=silent, HF_HUB_ETAG_TIMEOUT="1")
    assert message.count("\n") == 1 and "timed out" in message
    assert "no file or folder torchvision/resnet18.IMAGENET1K_V1" in message and "published model" in message


def put_network(folder: Path) -> None:
    model = Network("resnet18", 5, "cifar", 4).abstract()
    load_torchvision(model, {key: np.zeros(shape) for key, shape in torchvision_shapes(model).items()})
    save_pretrained(model, folder)


@pytest.fixture
def small_hub(tmp_path):
    """Return the address of a hub with the model someone/net."""
    put_network(tmp_path / "published")

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            path = tmp_path / "published" / self.path.rsplit("/", 1)[-1]
            content = path.read_bytes() if "someone/net/resolve" in self.path and path.exists() else b""
            self.send_response(200 if content else 404)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("X-Error-Code", "RepoNotFound" if "someone/net" not in self.path else "EntryNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


FULL_THEN_FREE = """
import resource
from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.errors import UserError
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for name, size in (("someone/net", 20_000), ("someone/net", soft), ("someone/nat", soft)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        print(len(load_classifier(name).class_names))
    except UserError as error:
        print(error)
"""


def test_a_model_is_downloaded_once_and_what_prevents_it_is_said(tmp_path, small_hub):
    env = os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": small_hub}
    command = [sys.executable, "-c", FULL_THEN_FREE]
    first = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    full, found, unknown = first.stdout.splitlines()
    assert "File too large" in full and "free space" in full and "cache" in full
    assert found == "5" and "no file or folder someone/nat" in unknown and "does not exist" in unknown
    again = subprocess.run(command, env=env | {"HF_ENDPOINT": "http://127.0.0.1:9"}, capture_output=True, text=True)
    assert again.stdout.splitlines()[1] == "5"


def test_without_a_connection_nothing_is_tried_again_and_again(tmp_path):
    message = fetching(tmp_path, https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
    assert message.count("\n") == 1 and "no connection" in message and "Retrying" not in message


def test_a_damaged_copy_in_the_cache_is_refused(tmp_path):
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"not what was published")
    (tmp_path / "model.safetensors").symlink_to(blob)
    with pytest.raises(hub.UserError, match="delete it and run again"):
        hub.verify(tmp_path / "model.safetensors")


@pytest.mark.network
def test_the_published_weights_are_fetched():
    classifier = load_classifier("torchvision/resnet18.IMAGENET1K_V1")
    assert classifier.network.arch == "resnet18" and classifier.class_names[0] == "tench"
