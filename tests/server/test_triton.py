from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import pytriton
from conftest import Served
from fleet import until
from graphs import even, make_spec, write_grey_graph
from leftovers import have_ended, leftovers
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tamiz import Client, ModelNotFoundError, RepositoryError, TritonError, UnavailableError, UsageError
from tamiz_server import triton as module
from tamiz_server.config import ModelConfig, ServingSettings, new_config
from tamiz_server.config_text import format_config
from tamiz_server.control import Control
from tamiz_server.installation import Installation
from tamiz_server.instances import Instances
from tamiz_server.ports import Ports, choose_ports
from tamiz_server.process import ServerProcess
from tamiz_server.promotion import promote
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

pytestmark = pytest.mark.integration

SPEC = make_spec(["a", "b"])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    Repository(path).publish("pets", write_grey_graph(tmp_path / "graph.onnx", SPEC), SPEC)
    return path


def test_a_server_is_ready_when_it_has_started_and_leaves_nothing_behind(repository: Path) -> None:
    before = leftovers()
    with Triton(repository) as triton:
        children = [triton.pid, *(child.pid for child in psutil.Process(triton.pid).children(recursive=True))]
        assert len(children) > 1
        with Client(triton.url, model="pets") as client:
            assert client.classify(png_of(255)).label == "b"
        assert leftovers() - before
    assert have_ended(children)
    assert not leftovers() - before


def test_nothing_in_the_current_folder_is_executed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, executed = tmp_path / "current", tmp_path / "executed"
    folder.mkdir()
    for name in ("numpy", "json", "onnxruntime", "struct"):
        (folder / f"{name}.py").write_text(f"open({str(executed)!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(folder)
    with Triton(repository) as triton, Client(triton.url, model="pets") as client:
        assert client.classify(png_of(255)).label == "b"
    assert not executed.exists()


def png_of(grey: int) -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.full((28, 28), grey, np.uint8))[1].tobytes()


def test_an_empty_repository_is_served_and_the_first_model_can_be_added_later(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "model_repository")
    repository.path.mkdir()
    spec = make_spec(["a", "b"])
    with (
        Triton(repository.path, start_timeout_s=30) as triton,
        Control(triton.url, triton.key) as control,
        contextlib.closing(Client(triton.url, model="first")) as client,
    ):
        with pytest.raises(ModelNotFoundError):
            client.classify(even(0))
        repository.publish("first", write_grey_graph(tmp_path / "first.onnx", spec), spec)
        control.load("first")
        assert client.classify(even(0)).version == 1


def test_a_server_listens_on_the_loopback_interface_only(served: Served) -> None:
    listening = [c for c in psutil.Process(served.triton.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}
    assert {connection.laddr.port for connection in listening} == set(served.triton.ports)


def test_control_over_http_needs_the_key(served: Served) -> None:
    url = f"http://127.0.0.1:{served.triton.ports.http}/v2/repository/models/grey/load"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, data=b"{}"), timeout=10)
    with caught.value:
        assert caught.value.code == 403
    with_key = urllib.request.Request(url, data=b"{}", headers={"triton-key": served.triton.key})
    with urllib.request.urlopen(with_key, timeout=60) as reply:
        assert reply.status == 200


def test_shared_memory_needs_the_key(served: Served) -> None:
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


def test_the_configuration_of_a_python_model_may_be_completed_by_the_model_itself(
    repository: Path, tmp_path: Path
) -> None:
    version = repository / "theirs" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(COMPLETES_ITS_CONFIGURATION)
    (version.parent / "config.pbtxt").write_text('name: "theirs" backend: "python"')
    with Triton(repository) as triton, Control(triton.url, triton.key) as control:
        assert [field.name for field in control.config("theirs").input] == ["size"]


COMPLETES_ITS_CONFIGURATION = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "size", "data_type": "TYPE_INT32", "dims": [1]})
        config.add_output({"name": "double", "data_type": "TYPE_INT32", "dims": [1]})
        return config

    def execute(self, requests):
        return []
"""


def test_a_server_of_models_with_complete_configurations_starts_without_the_processes_that_would_complete_them(
    repository: Path,
) -> None:
    with Triton(repository) as triton:
        assert "--disable-auto-complete-config" in psutil.Process(triton.pid).cmdline()


def test_a_damaged_graph_is_the_reason_in_the_error(repository: Path) -> None:
    before = leftovers()
    (repository / "pets" / "1" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(TritonError, match="failed to load 'pets' version 1: .*onnx"), Triton(repository):
        pass
    assert not leftovers() - before


def test_a_graph_that_does_not_fit_the_configuration_is_the_reason_in_the_error(
    repository: Path, tmp_path: Path
) -> None:
    write_grey_graph(repository / "pets" / "1" / "model.onnx", make_spec(["a", "b"], 32, 32))
    with (
        pytest.raises(TritonError, match=r"input 'image': .*\[28, 28, 1\], the model has \[32, 32, 1\]"),
        Triton(repository),
    ):
        pass


def test_a_missing_library_is_the_reason_in_the_error(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Installation, "environment", lambda installation: {**os.environ, "LD_LIBRARY_PATH": ""})
    with pytest.raises(TritonError, match="error while loading shared libraries: lib.*"), Triton(repository):
        pass


def test_a_stub_that_cannot_start_ends_the_start_at_once(repository: Path) -> None:
    before = leftovers()
    # The shell that Triton starts stubs with does not accept this name of a folder.
    (repository / "pets").rename(repository / "p (e) ts")
    config = repository / "p (e) ts" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "pets"', 'name: "p (e) ts"'))
    began = time.monotonic()
    with pytest.raises(TritonError, match=r"Triton did not start: (bash: |terminate called)"), Triton(repository):
        pass
    assert time.monotonic() - began < 30
    assert not leftovers() - before


@pytest.mark.parametrize(
    "name",
    [b"-dash", "sp ace (a) ' \" \n caf\N{LATIN SMALL LETTER E WITH ACUTE} ".encode() + b"\xff"],
    ids=["dash", "others"],
)
def test_the_path_of_a_repository_a_log_and_a_temporary_directory_may_have_any_characters(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(folder))
    monkeypatch.chdir(tmp_path)
    repository = Repository(Path(folder.name) / folder.name)
    repository.publish("pets", write_grey_graph(folder / "graph.onnx", SPEC), SPEC)
    log = Path(folder.name) / "triton.log"
    with Triton(repository.path, log=log) as triton, Control(triton.url, triton.key) as control:
        repository.publish("pets", folder / "graph.onnx", SPEC)
        promote(repository, "pets", 2, control=control)
        with Client(triton.url, model="pets") as client:
            assert client.classify(png_of(255)).version == 2
    assert "Started GRPCInferenceService" in log.read_text()


def test_the_installation_may_be_in_a_folder_with_any_characters(repository: Path, tmp_path: Path) -> None:
    packages = tmp_path / "my project (\N{LATIN SMALL LETTER E WITH ACUTE})" / "site-packages"
    packages.parent.mkdir()
    packages.symlink_to(Path(pytriton.__file__).parent.parent)
    code = (
        "import sys; from tamiz_server.triton import Triton\n"
        "with Triton(sys.argv[1]) as triton: print(open(f'/proc/{triton.pid}/cmdline').read())"
    )
    path = os.pathsep.join([os.fspath(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, repository]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(os.fspath(packages))


def test_a_repository_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(RepositoryError, match="no model repository /nowhere"), Triton("/nowhere"):
        pass


def test_a_server_that_may_not_be_restarted_is_given_up_when_it_is_killed(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    with Triton(repository, log=log, restarts=0) as triton:
        os.kill(triton.pid, signal.SIGKILL)
        with pytest.raises(
            TritonError, match=r"Triton crashed \(SIGKILL\) after .* restarted at most 0 times .*triton.log"
        ):
            triton.wait()
        with pytest.raises(TritonError, match="SIGKILL"):
            _ = triton.pid


def test_a_block_that_fails_because_the_server_was_given_up_ends_with_the_reason(repository: Path) -> None:
    lines: list[str] = []

    def classify_after_a_crash() -> None:
        with (
            Triton(repository, restarts=0, on_progress=lines.append) as triton,
            Client(triton.url, model="pets", timeout_s=2) as client,
        ):
            os.kill(triton.pid, signal.SIGKILL)
            client.classify(png_of(255))

    with pytest.raises(TritonError, match=r"Triton crashed \(SIGKILL\) after .* restarted at most 0 times") as caught:
        classify_after_a_crash()
    assert isinstance(caught.value.__cause__, UnavailableError)
    assert [re.sub(r"[0-9.]+ s", "N s", line) for line in lines] == ["Triton crashed (SIGKILL) after N s; given up"]


def test_a_server_that_is_killed_while_it_starts_is_reported_as_killed(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ServerProcess.start

    def start_and_kill(process: ServerProcess) -> None:
        start(process)
        os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(ServerProcess, "start", start_and_kill)
    with pytest.raises(TritonError, match=r"Triton did not start: it crashed \(SIGKILL\); "), Triton(repository):
        pass


def test_a_killed_server_is_restarted_with_its_ports_and_key_and_no_call_fails(repository: Path) -> None:
    before = leftovers()
    lines: list[str] = []
    with Triton(repository, on_progress=lines.append) as triton:
        old = [triton.pid, *(child.pid for child in psutil.Process(triton.pid).children(recursive=True))]
        ports = triton.ports
        with Client(triton.url, model="pets", timeout_s=30) as client:
            os.kill(triton.pid, signal.SIGSEGV)
            assert client.classify(png_of(255)).label == "b"
        until(lambda: len(lines) == 2, 30)
        assert have_ended(old)
        assert triton.ports == ports
        with Control(triton.url, triton.key) as control:
            assert [state.state for state in control.models()] == ["READY"]
        assert triton.pid not in old
    assert re.fullmatch(r"Triton crashed \(SIGSEGV\) after [0-9.]+ s; restarting", lines[0])
    assert re.fullmatch(r"Triton is ready again after [0-9.]+ s", lines[1])
    assert not leftovers() - before


def test_a_server_that_is_stopped_during_a_restart_leaves_nothing_behind(repository: Path) -> None:
    before = leftovers()
    lines: list[str] = []
    with Triton(repository, on_progress=lines.append) as triton:
        old = triton.pid
        os.kill(old, signal.SIGKILL)
        until(lambda: triton.pid != old)
        pids = [triton.pid, *(child.pid for child in psutil.Process(triton.pid).children(recursive=True))]
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert have_ended(pids)
    assert len(lines) == 1
    assert not leftovers() - before


def test_an_instance_that_died_is_brought_back_without_a_gap_or_a_change_of_the_repository(repository: Path) -> None:
    lines: list[str] = []
    paths = [repository, *repository.rglob("*")]
    before = [path.stat().st_mtime_ns for path in paths]
    with Triton(repository, on_progress=lines.append) as triton, Client(triton.url, model="pets") as client:
        instances = Instances(triton.pid)
        running = instances.running()
        os.kill(stubs_of(triton)[0], signal.SIGKILL)
        until(lambda: bool(lines), 2)
        until(lambda: client.classify(png_of(255)).label == "b" and instances.running() == running, 30)
        assert [path.stat().st_mtime_ns for path in paths] == before
        # The configuration that brought it back does not hide those that are written later.
        with Control(triton.url, triton.key) as control:
            Repository(repository).publish("pets", repository / "pets" / "1" / "model.onnx", SPEC)
            promote(Repository(repository), "pets", 2, control=control)
        assert client.classify(png_of(255)).version == 2
    assert lines == ["an instance of model pets died (version 1); loading the model again"]


def stubs_of(triton: Triton) -> list[int]:
    children = psutil.Process(triton.pid).children(recursive=True)
    return [child.pid for child in children if "python_backend_stub" in child.name() + child.exe()]


def test_an_unloaded_model_and_fewer_instances_are_not_taken_for_dead_instances(repository: Path) -> None:
    lines: list[str] = []
    with Triton(repository, on_progress=lines.append) as triton, Control(triton.url, triton.key) as control:
        instances = Instances(triton.pid)
        with_two = instances.running()
        Repository(repository).update_config("pets", one_instance)
        control.load("pets")
        until(lambda: len(instances.running()) == 1 < len(with_two))
        time.sleep(1)
        with InferenceServerClient(triton.url.removeprefix("grpc://")) as client:
            client.unload_model("pets", headers={"triton-grpc-protocol-triton-key": triton.key})
        until(lambda: not instances.running(), 20)
        time.sleep(1)
    assert not lines


def one_instance(config: ModelConfig) -> None:
    config.instance_group[0].count = 1


def test_a_key_with_a_null_byte_is_an_error(repository: Path) -> None:
    with pytest.raises(UsageError, match="key: .* give a string of printable ASCII characters"):
        Triton(repository, key="a\0b")


@pytest.mark.parametrize("which", ["grpc", "http", "metrics"])
def test_another_port_is_chosen_if_a_chosen_port_is_taken_before_the_start(
    which: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        first = [taken.getsockname()[1]]

        def choose_a_taken_port_first(requested: Ports) -> Ports:
            chosen = choose_ports(requested)
            return chosen._replace(**{which: first.pop()}) if first else chosen

        monkeypatch.setattr(module, "choose_ports", choose_a_taken_port_first)
        with Triton(repository) as triton, Client(triton.url, model="pets") as client:
            assert client.live_version == 1


def test_a_server_that_is_not_running_has_no_process(repository: Path) -> None:
    triton = Triton(repository)
    with pytest.raises(UsageError, match="Triton is not running"):
        _ = triton.pid
    with pytest.raises(UsageError, match="Triton is not running"):
        triton.wait()
    with pytest.raises(UsageError, match="give a log file"):
        _ = triton.log


def test_a_running_server_cannot_be_started_again(served: Served) -> None:
    with pytest.raises(UsageError, match="running already"):
        served.triton.start()
