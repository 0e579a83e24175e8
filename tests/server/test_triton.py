from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import TAMIZ, Served
from graphs import even, make_spec, write_grey_graph
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tamiz import Client, ModelNotFoundError, RepositoryError, TritonError
from tamiz_server import triton as module
from tamiz_server.config import ServingSettings, format_config, new_config
from tamiz_server.control import Control
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

SPEC = make_spec(["a", "b"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    Repository(path).publish("pets", write_grey_graph(tmp_path / "graph.onnx", SPEC), SPEC)
    return path


def leftovers() -> set[str]:
    shared = {str(path) for path in Path("/dev/shm").glob("tamiz-triton-*")}
    return shared | {str(path) for path in Path(tempfile.gettempdir()).glob("tamiz-triton-*")}


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
            return True
        time.sleep(0.05)
    return False


def test_it_is_ready_at_once_and_leaves_nothing_behind(repository: Path) -> None:
    before = leftovers()
    with Triton(repository) as triton:
        children = [triton.pid, *(child.pid for child in psutil.Process(triton.pid).children(recursive=True))]
        assert len(children) > 1
        with Client(triton.url, model="pets") as client:
            assert client.classify(png_of(255)).label == "b"
        assert leftovers() - before
    assert gone(children)
    assert leftovers() == before


def png_of(grey: int) -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.full((28, 28), grey, np.uint8))[1].tobytes()


def test_a_repository_without_a_model_is_served_and_the_first_one_comes_later(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "model_repository")
    repository.path.mkdir()
    spec = make_spec(["a", "b"])
    with (
        Triton(repository.path, start_timeout_s=30) as triton,
        Control(triton.url, triton.key) as control,
        Client(triton.url, model="first") as client,
    ):
        with pytest.raises(ModelNotFoundError):
            client.classify(even(0))
        repository.publish("first", write_grey_graph(tmp_path / "first.onnx", spec), spec)
        control.load("first")
        assert client.classify(even(0)).version == 1


def test_it_listens_on_the_loopback_only(served: Served) -> None:
    listening = [c for c in psutil.Process(served.triton.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}
    assert {connection.laddr.port for connection in listening} == set(served.triton.ports)


def test_control_by_http_wants_the_key(served: Served) -> None:
    url = f"http://127.0.0.1:{served.triton.ports.http}/v2/repository/models/grey/load"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=10)
    with caught.value:
        assert caught.value.code == 403
    with_key = urllib.request.Request(url, data=b"{}", headers={"triton-key": served.triton.key})
    with urllib.request.urlopen(with_key, timeout=60) as reply:
        assert reply.status == 200


def test_shared_memory_wants_the_key_too(served: Served) -> None:
    with InferenceServerClient(served.triton.url.removeprefix("grpc://")) as client:
        with pytest.raises(InferenceServerException, match="restricted"):
            client.register_system_shared_memory("region", "/region", 1)
        headers = {"triton-grpc-protocol-triton-key": served.triton.key}
        assert client.get_system_shared_memory_status(headers=headers) is not None


def test_a_model_that_tamiz_did_not_publish_is_served_beside_the_others(repository: Path, tmp_path: Path) -> None:
    other = repository / "other"
    (other / "1").mkdir(parents=True)
    write_grey_graph(other / "1" / "model.onnx", SPEC)
    config = new_config("other", ServingSettings())
    config.input.add(name="image", data_type="TYPE_UINT8", dims=[28, 28, 1])
    config.output.add(name="probabilities", data_type="TYPE_FP32", dims=[2])
    (other / "config.pbtxt").write_text(format_config(config))
    with Triton(repository) as triton, Control(triton.url, triton.key) as control:
        states = {(state.model, state.state) for state in control.models()}
    assert states == {("other", "READY"), ("pets", "READY")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_leaves_nothing(
    number: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    before = leftovers()
    process, lines = start_serving(repository, tmp_path)
    assert "serving pets version 1" in lines[0]
    pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    assert len(pids) > 2
    process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert gone(pids)
    assert leftovers() == before
    assert "Started GRPCInferenceService" in (tmp_path / "triton.log").read_text()


def test_triton_ends_even_when_the_command_is_killed_and_the_next_one_cleans_up(
    repository: Path, tmp_path: Path
) -> None:
    before = leftovers()
    process, _ = start_serving(repository, tmp_path)
    pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert gone(pids)
    assert leftovers() - before, "nobody was there to remove its folder"
    with Triton(repository):
        pass
    assert leftovers() == before


def start_serving(repository: Path, tmp_path: Path) -> tuple[subprocess.Popen[str], list[str]]:
    command = [TAMIZ, "serve", "--repository", repository, "--log", tmp_path / "triton.log"]
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    process = subprocess.Popen([*map(str, command), *ports], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [process.stdout.readline() for _ in range(3)]


def test_a_port_in_use_is_named_before_anything_starts(
    served: Served, repository: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tamiz("serve", "--repository", repository, "--grpc-port", served.triton.ports.grpc)
    assert done.returncode == 1
    assert f"port {served.triton.ports.grpc} for grpc: Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broken_model_is_the_reason_given(repository: Path) -> None:
    before = leftovers()
    (repository / "pets" / "1" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(TritonError, match="failed to load 'pets' version 1: .*onnx"), Triton(repository):
        pass
    assert leftovers() == before


def test_a_graph_that_is_not_what_the_configuration_says_is_the_reason_given(repository: Path, tmp_path: Path) -> None:
    write_grey_graph(repository / "pets" / "1" / "model.onnx", make_spec(["a", "b"], 32, 32))
    with (
        pytest.raises(TritonError, match=r"input 'image': .*\[28, 28, 1\], the model \[32, 32, 1\]"),
        Triton(repository),
    ):
        pass


def test_a_missing_library_is_the_reason_given(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_environment", lambda installation: {**os.environ, "LD_LIBRARY_PATH": ""})
    with pytest.raises(TritonError, match="error while loading shared libraries: lib.*"), Triton(repository):
        pass


def test_a_missing_libpython_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIBPYTHON", "libpython3.99.so.1.0")
    with pytest.raises(TritonError, match=r"apt-get install libpython3\.99"):
        module.find_triton()


def test_a_repository_that_is_not_there_is_told() -> None:
    with pytest.raises(RepositoryError, match="no model repository /nowhere"), Triton("/nowhere"):
        pass


def test_a_server_that_dies_is_told_with_the_reason(repository: Path) -> None:
    with Triton(repository) as triton:
        os.kill(triton.pid, signal.SIGKILL)
        with pytest.raises(TritonError, match="Triton ended with status -9"):
            triton.wait()


def test_the_check_of_the_machine_passes_here() -> None:
    done = subprocess.run([sys.executable, "-m", "tamiz_server.triton"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_key_that_no_command_can_hold_is_told(repository: Path) -> None:
    with pytest.raises(TritonError, match="cannot start Triton: embedded null byte"), Triton(repository, key="a\0b"):
        pass


@pytest.mark.parametrize("which", ["grpc", "http", "metrics"])
def test_a_taken_port_that_was_chosen_here_is_chosen_anew(
    which: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = module._choose_ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = [taken.getsockname()[1]]

        def choose_badly_at_first(asked: module.Ports) -> module.Ports:
            chosen = choose(asked)
            return chosen._replace(**{which: first.pop()}) if first else chosen

        monkeypatch.setattr(module, "_choose_ports", choose_badly_at_first)
        with Triton(repository) as triton, Client(triton.url, model="pets") as client:
            assert client.live_version == 1
