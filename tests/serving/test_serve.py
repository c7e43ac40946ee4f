"""`resnet-jax serve`: answers, and what happens to requests that are wrong, too large, too slow or too many."""

import base64
import io
import socket
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import openapi_spec_validator
import pytest
from live import NAMES, PREPROCESSING, draw_image, eventually, form, save_network, serving
from PIL import Image

from resnet_jax.classifier.classifier import load_classifier

IMAGES = {f"{seed}.png": draw_image(seed) for seed in range(6)}
FIRST = IMAGES["0.png"]
QUEUE, MEGABYTES, MEGAPIXELS, SECONDS = 24, 1, 2, 2


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    root = tmp_path_factory.mktemp("networks")
    return save_network(root / "pets"), save_network(root / "birds", seed=1)


@pytest.fixture(scope="module")
def server(networks):
    limits = {"megabytes": MEGABYTES, "megapixels": MEGAPIXELS, "seconds": SECONDS, "queue": QUEUE}
    with serving(*networks, *(word for name, value in limits.items() for word in (f"--limits.{name}", value))) as it:
        yield it


@pytest.fixture(scope="module")
def expected(networks):
    """Return what `Classifier.predict` says of each image, by the network's name."""
    pictures = [Image.open(io.BytesIO(content)) for content in IMAGES.values()]
    return {path.name: load_classifier(path).predict(pictures, top_k=5) for path in networks}


def assert_same(result, guesses):
    assert [it["class"] for it in result["predictions"]] == [guess.name for guess in guesses]
    assert [it["index"] for it in result["predictions"]] == [guess.number for guess in guesses]
    np.testing.assert_allclose(
        [it["probability"] for it in result["predictions"]], [guess.probability for guess in guesses], rtol=1e-4
    )


def bomb() -> bytes:
    """Return a PNG file of 100 kB that is 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    content = zlib.compress(bytes(30_000 * 3751), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as it:
        it.writestr("cat.png", FIRST)
    return file.getvalue()


HOSTILE = {
    "bomb": bomb(),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "zip": archive(),
    "truncated": FIRST[:200],
    "empty": b"",
    "text": b"not an image",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/written) (w) file closefile\n",
}


def test_an_image_gets_the_classes_of_predict(server, expected):
    (result,) = server.ask("/predict", FIRST).json["results"]
    assert_same(result, expected["pets"][0].guesses)


def test_several_images_get_the_classes_of_predict_in_their_order(server, expected):
    reply = server.send(*IMAGES.items(), query="?model=birds")
    assert reply.status == 200 and reply.json["model"] == "birds"
    assert [result["name"] for result in reply.json["results"]] == list(IMAGES)
    for result, one in zip(reply.json["results"], expected["birds"], strict=True):
        assert_same(result, one.guesses)


def test_concurrent_requests_share_batches_and_get_their_own_answers(server, expected):
    before = server.figure('resnet_jax_batch_images_count{model="pets"}')
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda number: server.ask("/predict", IMAGES[f"{number % 6}.png"]), range(60)))
    for number, reply in enumerate(replies):
        assert_same(reply.json["results"][0], expected["pets"][number % 6].guesses)
    assert server.figure('resnet_jax_batch_images_count{model="pets"}') - before < 60


def test_top_k_is_the_number_of_classes(server):
    for asked, given in ((1, 1), (3, 3), (99, len(NAMES))):
        (result,) = server.ask(f"/predict?top_k={asked}", FIRST).json["results"]
        assert len(result["predictions"]) == given


def test_explain_draws_over_the_image_that_the_network_saw(server):
    (result,) = server.ask("/predict?explain=true", FIRST).json["results"]
    with Image.open(io.BytesIO(base64.b64decode(result["overlay"]))) as overlay:
        assert overlay.format == "PNG" and overlay.width == overlay.height >= 224
    with Image.open(io.BytesIO(base64.b64decode(result["image"]))) as image, Image.open(io.BytesIO(FIRST)) as sent:
        np.testing.assert_array_equal(np.asarray(image), PREPROCESSING.decode(sent))
    assert not {"image", "overlay"} & server.ask("/predict?explain=false", FIRST).json["results"][0].keys()


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_an_image_of_bounded_size_fails_alone(server, expected, kind):
    alone = server.ask("/predict", HOSTILE[kind])
    assert alone.status == 422 and alone.json["results"][0]["error"]
    among = server.send(("a.png", FIRST), ("b.png", HOSTILE[kind]), ("c.png", IMAGES["1.png"]))
    assert among.status == 200
    first, bad, second = among.json["results"]
    assert bad["error"] and "predictions" not in bad
    assert_same(first, expected["pets"][0].guesses)
    assert_same(second, expected["pets"][1].guesses)


def test_a_photograph_of_a_telephone_has_the_remedy_in_its_error(server):
    reply = server.send(("IMG_1.HEIC", b"\0\0\0\x18ftypheic"))
    assert "JPEG" in reply.json["results"][0]["error"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("top_k=0", 400), ("top_k=x", 400), ("topk=3", 400), ("explain=perhaps", 400), ("model=cows", 404)],
)
def test_a_wrong_parameter_is_named(server, query, status):
    reply = server.ask(f"/predict?{query}", FIRST)
    assert reply.status == status and query.partition("=")[0 if status == 400 else 2] in reply.json["error"]


def test_another_type_of_body_is_refused(server):
    reply = server.ask("/predict", FIRST, {"Content-Type": "application/json"})
    assert reply.status == 415 and "multipart/form-data" in reply.json["error"]


@pytest.mark.parametrize("body", [b"", b"no form", form(), form(("a.png", FIRST))[:-60]])
def test_a_malformed_or_empty_form_is_refused(server, body):
    reply = server.ask("/predict", body, {"Content-Type": f"multipart/form-data; boundary={'b' * 40}"})
    assert reply.status == 400 and reply.json["error"]


def test_a_form_without_a_boundary_is_refused(server):
    assert server.ask("/predict", form(), {"Content-Type": "multipart/form-data"}).status == 400


def test_a_body_of_100_megabytes_is_refused_and_takes_no_memory(server):
    before = server.figure("process_resident_memory_bytes")
    reply = server.ask("/predict", bytes(100 * 10**6))
    assert reply.status == 413 and str(MEGABYTES) in reply.json["error"]
    assert server.figure("process_resident_memory_bytes") - before < 20e6


def test_a_body_without_a_length_is_refused_when_it_becomes_too_large(server):
    chunks = (bytes(10**5) for _ in range(30))
    assert server.ask("/predict", chunks).status == 413  # http.client sends it in chunks


def test_a_client_that_sends_slowly_is_told_so_when_its_time_is_over(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n\x89"
        )
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ") and str(SECONDS).encode() in answer


def test_a_client_that_goes_away_takes_no_place(server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n\x89"
        )
    eventually(lambda: server.figure("resnet_jax_requests_in_flight") == 1)  # the one that asks
    assert server.figure('resnet_jax_images_waiting{model="pets"}') == 0


def test_a_full_queue_is_told_with_the_time_to_come_back(server):
    files = [("a.png", FIRST)] * QUEUE  # a request that leaves no place for another one
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: server.send(*files), range(48)))
    assert {reply.status for reply in replies} == {200, 503}
    assert all(reply.headers["retry-after"] == "1" and reply.json["error"] for reply in replies if reply.status == 503)
    assert server.ask("/predict", FIRST).status == 200


def test_more_images_than_the_queue_holds_are_refused(server):
    reply = server.send(*[("a.png", FIRST)] * (QUEUE + 1))
    assert reply.status == 400 and str(QUEUE) in reply.json["error"]


def test_the_health_paths_answer(server):
    assert server.ask("/healthz").status == server.ask("/readyz").status == 200
    assert server.ask("/readyz").json == {"models": {"pets": True, "birds": True}}


def test_requests_are_counted_by_path_and_status(server):
    name = 'resnet_jax_requests_total{path="other",status="404"}'
    before = server.figure(name)
    assert server.ask("/admin").status == server.ask("/.env").status == 404
    assert server.figure(name) == before + 2


def test_an_error_of_the_interface_is_json(server):
    reply = server.ask("/predict")
    assert reply.status == 405 and reply.json["error"] and reply.headers["allow"] == "POST"


def test_the_page_names_the_models_and_may_ask_nobody_else(server):
    reply = server.ask("/")
    assert b"<option>pets</option>" in reply.body and b"<option>birds</option>" in reply.body
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert b"http:" not in reply.body and b"https:" not in reply.body


def test_the_examples_of_the_page_are_photographs(server):
    for name in ("china.jpg", "flower.jpg"):
        reply = server.ask(f"/examples/{name}")
        assert reply.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(reply.body)).size == (640, 427)
    assert server.ask("/examples/absent.jpg").status == server.ask("/examples/..%2Fapp.py").status == 404


def test_the_openapi_document_is_valid(server):
    document = server.ask("/openapi.json").json
    openapi_spec_validator.validate(document)
    paths = {"/", "/predict", "/examples/{name}", "/healthz", "/readyz", "/metrics", "/openapi.json"}
    assert set(document["paths"]) == paths


def test_answers_have_the_form_that_the_openapi_document_describes(server):
    document = server.ask("/openapi.json").json
    for reply in (server.send(*IMAGES.items(), ("x", b"x")), server.ask("/predict", b"x")):
        (media,) = document["paths"]["/predict"]["post"]["responses"][str(reply.status)]["content"].values()
        jsonschema.validate(reply.json, media["schema"] | {"components": document["components"]})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"model": 1}, media["schema"] | {"components": document["components"]})


def test_the_server_is_still_the_same_process(server):
    assert server.process.poll() is None and server.ask("/readyz").status == 200
