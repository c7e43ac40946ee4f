"""docs/serve.md runs: each block in its order, against servers on free ports."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import draw_image, save_network

REPO = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in taken]
    for it in taken:
        it.close()
    return ports


def answers_in(output: str) -> Iterator[dict]:
    """Yield the answers among other output."""
    start = output.find('{"model":')
    while start >= 0:
        answer, end = json.JSONDecoder().raw_decode(output, start)
        yield answer
        start = output.find('{"model":', end)


@pytest.mark.slow  # trains a network, and starts four servers
def test_the_page_runs(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, module in (("resnet-jax", "-m resnet_jax"), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(REPO)}
    options = ["--config", "configs/digits.py", "--model.width", "4", "--train.epochs", "1"]
    command = ["resnet-jax", "train", *options, "--workdir", tmp_path / "runs" / "pets"]
    subprocess.run(command, cwd=REPO, env=environment, check=True, capture_output=True)
    shutil.copy(save_network(tmp_path / "birds") / "model.safetensors", tmp_path / "runs" / "birds.safetensors")
    for seed, name in enumerate(("cat.jpg", "dog.jpg")):
        (tmp_path / name).write_bytes(draw_image(seed, "jpeg"))

    page = (REPO / "docs" / "serve.md").read_text()
    blocks = [text if kind == "sh" else f"python - <<'END'\n{text}END\n" for kind, text in BLOCK.findall(page)]
    if shutil.which("npm") is None:  # the page without a server is the fourth process
        blocks = [block.replace(" %4", "") for block in blocks if "npm install" not in block]
    script = "\n".join(blocks).replace("serve runs/pets &", "serve runs/pets --port 8000 &")
    for number, port in enumerate(free_ports(4)):
        script = script.replace(str(8000 + number), str(port))
    run = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    answers = list(answers_in(run.stdout))
    assert [len(answer["results"]) for answer in answers] == [1, 2, 1, 1]
    assert [answer["model"] for answer in answers] == ["pets", "pets", "birds", "pets"]
    assert shutil.which("npm") is None or (tmp_path / "pets-web" / "index.html").is_file()
    assert (tmp_path / "overlay.png").read_bytes().startswith(b"\x89PNG")
