"""The options of `resnet-jax serve`: what can't work is refused before a model is read."""

import socket

import pytest
from live import save_network

from resnet_jax.cli import call
from resnet_jax.commands import serve as module
from resnet_jax.errors import UsageError, UserError


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return str(save_network(tmp_path_factory.mktemp("networks") / "pets"))


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(module.TOKEN, raising=False)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--limits.queue", "0"], "--limits.queue"),
        (["--port", "65536"], "65536"),
        (["--tls-key", "key.pem"], "--tls-cert"),
        (["--watch"], "--watch"),
        (["--examples", "resnet_jax"], "--examples: .*no image"),
    ],
)
def test_a_wrong_option_is_named(network, options, named):
    with pytest.raises(UsageError, match=named):
        call(["serve", network, *options])


def test_no_model_is_an_error():
    with pytest.raises(UsageError, match="no model"):
        call(["serve"])


def test_two_models_of_one_name_are_refused(network):
    with pytest.raises(UsageError, match="both called pets"):
        call(["serve", network, f"{network}/../pets"])


def test_a_missing_package_is_named_with_the_extra_in_a_checkout(network, monkeypatch):
    monkeypatch.setattr(module, "EXTRA", (*module.EXTRA, "absent_package"))
    with pytest.raises(UsageError, match=r"absent_package.*'\.\[serve\]' in a checkout"):
        call(["serve", network])


def test_an_empty_token_is_refused(network, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(UsageError, match="token"):
        call(["serve", network, "--token-file", str(tmp_path / "token")])
    monkeypatch.setenv(module.TOKEN, " ")
    with pytest.raises(UsageError, match=module.TOKEN):
        call(["serve", network])


def test_a_missing_token_file_is_named(network, tmp_path):
    with pytest.raises(UserError, match="absent"):
        call(["serve", network, "--token-file", str(tmp_path / "absent")])


def test_a_port_that_is_in_use_is_named(network):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        with pytest.raises(UserError, match=port):
            call(["serve", network, "--port", port])


def test_a_certificate_that_is_none_is_named(network, tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(UserError, match=r"cert\.pem"):
        call(["serve", network, "--port", "0", "--tls-cert", str(tmp_path / "cert.pem")])
