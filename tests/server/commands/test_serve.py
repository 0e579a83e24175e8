from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import TAMIZ, Served
from graphs import make_spec, write_grey_graph
from leftovers import have_ended, leftovers

from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

pytestmark = pytest.mark.integration


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path, spec = tmp_path / "models", make_spec(["a", "b"])
    Repository(path).publish("pets", write_grey_graph(tmp_path / "graph.onnx", spec), spec)
    return path


def start_serving(repository: Path, tmp_path: Path, *options: str) -> tuple[subprocess.Popen[str], list[str]]:
    command = [TAMIZ, "serve", "--repository", repository, "--log", tmp_path / "triton.log", *options]
    ports = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    process = subprocess.Popen([*map(str, command), *ports], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [process.stdout.readline() for _ in range(4)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_and_leaves_nothing_behind(
    number: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    before = leftovers()
    process, lines = start_serving(repository, tmp_path)
    assert "serving pets version 1" in lines[0]
    assert "key for promote and rollback: " in lines[2]
    url = next(word for word in lines[1].split() if word.startswith("grpc://")).rstrip(",")
    assert lines[3] == f"next: tamiz classify IMAGES --model pets --url {url}\n"
    pids = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    assert len(pids) > 2
    process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
    assert have_ended(pids)
    assert not leftovers() - before
    assert "Started GRPCInferenceService" in (tmp_path / "triton.log").read_text()


def test_what_is_not_served_and_settings_that_ruin_serving_are_named_at_the_start(
    repository: Path, tmp_path: Path
) -> None:
    """A foreign model that Triton cannot load does not stop it; one that it can load is served."""
    for name, text in (("ensemble", 'platform: "ensemble"'), ("malformed", "{"), ("python", 'backend: "python"')):
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(text)
    (repository / "python" / "1" / "model.py").write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
    )
    (repository / "empty").mkdir()
    Repository(repository).update_config(
        "pets", lambda config: setattr(config.dynamic_batching, "max_queue_delay_microseconds", 900)
    )
    process, lines = start_serving(repository, tmp_path)
    try:
        assert process.stdout is not None
        while not lines[-1].startswith("key for"):
            assert lines[-1], "the server did not start"
            lines.append(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
    left_out = [line for line in lines if line.startswith("left out: ")]
    assert lines[0] == "serving pets version 1\n"
    assert len(left_out) == 3
    assert left_out[0] == "left out: empty: not published by Tamiz: no config.pbtxt\n"
    assert left_out[1].startswith("left out: ensemble: not published by Tamiz: ensemble scheduling must be set")
    assert left_out[2].startswith("left out: malformed: not published by Tamiz: failed to read text proto")
    assert [line for line in lines if line.startswith("warning: model pets: max_queue_delay_us: 900: Triton 2.51")]


def test_triton_ends_when_the_command_is_killed_and_the_next_server_removes_its_files(
    repository: Path, tmp_path: Path
) -> None:
    before = leftovers()
    process, lines = start_serving(repository, tmp_path, "--key", "secret")
    assert lines[2] == "uses the given key\n"
    pids = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    assert have_ended(pids)
    assert leftovers() - before, "the killed process could not remove its files"
    with Triton(repository):
        pass
    assert not leftovers() - before


def test_a_port_in_use_is_an_error_before_anything_starts(
    served: Served, repository: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = tamiz("serve", "--repository", repository, "--grpc-port", served.triton.ports.grpc)
    assert done.returncode == 1
    assert f"port {served.triton.ports.grpc} for grpc: Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
