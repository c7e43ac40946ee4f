"""A server in operation: a run that trains meanwhile, a token and HTTPS, hostile files, and the end under load."""

import io
import json
import resource
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from live import draw_image, eventually, save_network, serving
from PIL import Image

from resnet_jax.classifier.classifier import load_classifier
from resnet_jax.runs.folder import complete_steps
from resnet_jax.serving.watch import checkpoints_of

REPO = Path(__file__).parents[2]
FIRST = draw_image(0)
FORMATS = ("png", "jpeg", "gif", "webp", "tiff", "bmp")
CLIENTS = 24
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_network(tmp_path_factory.mktemp("networks") / "pets")


@pytest.fixture(scope="module")
def server(network):
    with serving(network, "--limits.seconds", 300) as it:
        yield it


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Return a file with some bytes changed, and perhaps a piece removed or another one repeated."""
    changed = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(changed), rng.integers(1, 9))
    changed[places] = rng.integers(0, 256, len(places))
    start, end = sorted(rng.integers(0, len(changed) + 1, 2))
    pieces = ([changed], [changed[:start], changed[end:]], [changed[:end], changed[start:]])
    return np.concatenate(pieces[rng.integers(0, 3)]).tobytes()


def test_ten_thousand_mutated_images_leave_the_server_as_it_was(server):
    rng, originals = np.random.default_rng(0), [draw_image(1, kind) for kind in FORMATS]
    expected = server.ask("/predict", FIRST).json

    def send(rounds: int) -> int:
        readable = 0
        for _ in range(rounds):
            files = [(f"{number}", mutated(rng, originals[number % len(originals)])) for number in range(100)]
            reply = server.send(*files)
            assert reply.status in (200, 422) and len(reply.json["results"]) == 100
            readable += sum("error" not in result for result in reply.json["results"])
        return readable

    readable = send(20)
    before = server.figure("process_resident_memory_bytes")
    readable += send(80)
    assert 1000 < readable < 9000  # the mutations are neither harmless nor hopeless
    assert server.figure("process_resident_memory_bytes") - before < 50e6
    assert server.ask("/predict", FIRST).json == expected and server.process.poll() is None


def test_schemathesis_finds_no_answer_that_the_document_does_not_describe(server, tmp_path):
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    before = server.figure('resnet_jax_request_seconds_count{path="/predict"}')
    command = ["run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks", checks, "--no-color"]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *command, "--max-examples", "50", "--seed", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert server.figure('resnet_jax_request_seconds_count{path="/predict"}') - before > 20
    assert server.ask("/predict", FIRST).status == 200


def test_no_upload_is_written_to_a_file(server):
    pixels, file = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "bmp")
    assert len(file.getvalue()) > 5e6
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    assert server.send(("a.bmp", file.getvalue()), query="?explain=true").status == 200
    assert server.ask("/predict", file.getvalue()).status == 200


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_sigterm_every_accepted_request_is_answered(server):
    kind = "Content-Type: image/png"
    head = f"POST /predict HTTP/1.1\r\nHost: a\r\n{kind}\r\nContent-Length: {len(FIRST)}\r\n\r\n".encode()
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(CLIENTS)]
    for client in clients:
        client.sendall(head + FIRST[:-1])
    eventually(lambda: server.figure("resnet_jax_requests_in_flight") == CLIENTS + 1)  # and the one that asks
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: refuses(server.port))
    answers = []
    for client in clients:
        with client:
            client.sendall(FIRST[-1:])
            answers.append(b"".join(iter(lambda client=client: client.recv(1 << 16), b"")))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    results = [json.loads(answer.partition(b"\r\n\r\n")[2])["results"][0] for answer in answers]
    assert len({result["predictions"][0]["class"] for result in results}) == 1
    assert server.process.wait(60) == -signal.SIGTERM


def test_models_and_metrics_need_the_token_also_by_https(network, tmp_path):
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1", "-nodes"]
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *names, "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True)
    with serving(network, "--tls-cert", cert, "--tls-key", key, RESNET_JAX_TOKEN="geheim") as server:
        server = server._replace(tls=ssl.create_default_context(cafile=cert))
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic geheim"}):
            assert server.ask("/predict", FIRST, headers).status == 401
            assert server.ask("/metrics", headers=headers).status == 401
        right = {"Authorization": "Bearer geheim"}
        assert server.ask("/predict", FIRST, right).status == server.ask("/metrics", headers=right).status == 200
        assert all(server.ask(path).status == 200 for path in ("/", "/healthz", "/readyz", "/openapi.json"))
        assert server.ask("/openapi.json").json["components"]["securitySchemes"]


def test_a_run_is_reloaded_while_it_trains(tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "train.py", "--config", "configs/digits.py", "--model.width", "4"]
    options = ["--train.epochs", "1000", "--evaluate.every-epochs", "1", "--workdir", str(run)]
    with subprocess.Popen([*command, *options], cwd=REPO, stdout=subprocess.DEVNULL) as training:
        eventually(lambda: (folder := checkpoints_of(str(run))) and complete_steps(folder), 120)
        with serving(run, "--watch") as server:

            def step() -> int:
                return server.ask("/predict", FIRST).json["results"][0]["step"]

            before = step()
            eventually(lambda: step() > before, 120)
            training.send_signal(signal.SIGTERM)
            training.wait()
            last = complete_steps(run / "checkpoints")[-1]
            eventually(lambda: step() == last == server.figure('resnet_jax_model_step{model="run"}'))
            (result,) = server.ask("/predict?top_k=99", FIRST).json["results"]
    (tmp_path / "0.png").write_bytes(FIRST)
    (expected,) = load_classifier(run).predict(tmp_path / "0.png")
    shares = {it["index"]: it["probability"] for it in result["predictions"]}
    for guess in expected.guesses:
        assert shares[guess.number] == pytest.approx(guess.probability, rel=1e-4, abs=1e-7)
