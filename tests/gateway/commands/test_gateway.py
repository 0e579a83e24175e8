from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import TAMIZ
from gateways import Gateway
from graphs import make_spec, write_grey_graph

from tamiz_gateway import Settings
from tamiz_server import Repository

pytestmark = pytest.mark.integration


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "model_repository")
    spec = make_spec([f"grey {index}" for index in range(10)])
    graph = write_grey_graph(tmp_path / "grey.onnx", spec)
    for _ in range(2):
        repository.publish("grey", graph, spec)
    return repository


@contextmanager
def command(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[Gateway, subprocess.Popen[str]]]:
    """Run ``tamiz gateway`` until its port is open, and stop it as a service manager does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAMIZ_")}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            [TAMIZ, "gateway", *arguments], cwd=folder, env=environment | variables, stdout=out, stderr=err, text=True
        )
    try:
        end = time.monotonic() + 60
        while not (found := re.search(r"gateway http://127.0.0.1:(\d+)", (folder / "out").read_text())):
            assert process.poll() is None, (folder / "err").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        gateway = Gateway(int(found[1]), Settings(model="grey"))
        while not _ready(gateway):
            assert time.monotonic() < end
            time.sleep(0.05)
        yield gateway, process
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        process.wait(40)
        psutil.wait_procs(children, 20)
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]


def _ready(gateway: Gateway) -> bool:
    try:
        return gateway.get("/readyz").status == 200
    except OSError:
        return False


def test_one_command_serves_a_repository_and_two_workers_share_the_monitor(
    repository: Repository, tmp_path: Path, even_image: Callable[..., Path]
) -> None:
    image = even_image(7)
    with command(tmp_path, "--serve", ML_CLASSIFIER_PORT="0", ML_CLASSIFIER_WORKERS="2") as (gateway, process):
        # The published example's own command.
        curl = ["curl", "-sS", "-X", "POST", "-F", f"file=@{image}", "-F", "return_probabilities=true"]
        done = subprocess.run(
            [*curl, f"http://127.0.0.1:{gateway.port}/classify"], capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout)["results"][0]["predicted_class"] == "grey 7"
        for _ in range(29):
            assert gateway.request("POST", "/v1/models/grey:classify", image.read_bytes()).status == 200
        assert gateway.post_json("/switch_model", {"model_id": "grey/2"}).status == 200
        for _ in range(10):
            assert gateway.request("POST", "/v1/models/grey:classify", image.read_bytes()).document["version"] == 2
        for _ in range(6):
            # Whichever worker answers.
            document = gateway.get("/monitor").document
            assert document["start"]["predictions"] == 40
            assert [each["predictions"] for each in document["start"]["versions"]] == [30, 10]
            metrics = gateway.get("/metrics").content.decode()
            assert 'tamiz_gateway_predictions_total{label="grey 7",model="grey",version="1"} 30.0' in metrics
    assert process.returncode == 0
    log = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines() if line.startswith("{")]
    assert len([entry for entry in log if entry["path"] == "/v1/models/grey:classify"]) == 39
    assert (tmp_path / "out").read_text().splitlines()[-1] == "stopped"
    assert not (tmp_path / "err").read_text()


def test_one_worker_serves_beside_a_running_server(
    served: Any, tmp_path: Path, even_image: Callable[..., Path]
) -> None:
    arguments = ["--url", served.triton.url, "--model", "grey", "--repository", str(served.repository.path)]
    with command(tmp_path, *arguments, "--port", "0") as (gateway, process):
        assert gateway.post_form("/classify", ("file", ("a.png", even_image(3).read_bytes()))).status == 200
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "--url", "grpc://localhost:8001"], "--serve starts a Triton of its own"),
        (["--host", "0.0.0.0"], "TAMIZ_GATEWAY_CLASSIFY_KEY"),
        (["--port", "70000"], "port: 70000"),
        (["--workers", "0"], "workers: 0"),
        (["--url", "ftp://localhost"], "ftp"),
        (["--repository", "none", "--model", ""], "model"),
    ],
)
def test_a_wrong_option_is_one_line(
    tamiz: Callable[..., subprocess.CompletedProcess[str]], arguments: list[str], message: str
) -> None:
    model = [] if "--model" in arguments else ["--model", "grey"]
    done = tamiz("gateway", *model, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_a_port_in_use_is_one_line(gateway: Gateway, tamiz: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = tamiz("gateway", "--model", "grey", "--port", gateway.port)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1 port {gateway.port}: Address already in use" in done.stderr
