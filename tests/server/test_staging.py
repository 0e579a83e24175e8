"""Staged files of publications beside a Triton that watches the repository itself, as many operators run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleet import until
from graphs import even, make_spec, write_grey_graph

from tamiz import Client, TamizError
from tamiz_server.installation import find_installation
from tamiz_server.ports import LOOPBACK, Ports, choose_ports
from tamiz_server.process import ServerProcess
from tamiz_server.promotion import promote
from tamiz_server.readiness import wait_until_ready
from tamiz_server.repository import Repository

pytestmark = pytest.mark.integration

SPEC = make_spec(["black", "white"])


@contextmanager
def triton(repository: Path, folder: Path, mode: str) -> Iterator[tuple[ServerProcess, str]]:
    """A Triton with its own choice of models, and its URL."""
    installation, ports, name = find_installation(), choose_ports(Ports(0, 0, 0)), f"staging-{mode}"
    options = {
        "id": name,
        "model-repository": repository,
        "backend-directory": installation.copy_backends(folder / "backends"),
        "backend-config": f"python,shm-region-prefix-name={name}-",
        "model-control-mode": mode,
        "repository-poll-secs": 1,
        "grpc-address": LOOPBACK,
        "grpc-port": ports.grpc,
        "http-address": LOOPBACK,
        "http-port": ports.http,
        "metrics-address": LOOPBACK,
        "metrics-port": ports.metrics,
    }
    command = [str(installation.binary), *(f"--{option}={value}" for option, value in options.items())]
    log = folder / "triton.log"
    process = ServerProcess(command, installation.environment(), log)
    process.start()
    try:
        wait_until_ready(name, ports, process, log, {"pets": [1]}, timeout_s=60)
        yield process, f"grpc://{LOOPBACK}:{ports.grpc}"
    finally:
        process.stop()


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_staged_files_neither_stop_a_triton_that_loads_all_models_nor_are_loaded(mode: str, tmp_path: Path) -> None:
    repository, graph = Repository(tmp_path / "models"), write_grey_graph(tmp_path / "graph.onnx", SPEC)
    repository.publish("pets", graph, SPEC)
    # What a publication leaves behind that is killed while it copies a graph or puts a version together.
    (repository.path / ".tamiz-staging.onnx").write_bytes(b"half")
    (repository.path / "pets" / ".tamiz-staging").mkdir()
    (repository.path / "pets" / ".tamiz-staging" / "spec.json").write_text("half")
    (repository.path / "pets" / ".tamiz-staging.pbtxt").write_text("half")
    with triton(repository.path, tmp_path, mode) as (process, url), Client(url, model="pets") as client:
        assert client.classify(even(1, 2)).label == "white"
        if mode == "poll":
            # A publication of the first model that was killed, which the server comes upon while it runs.
            (repository.path / ".tamiz-staging").mkdir()
            until(lambda: "'.tamiz-staging'" in (tmp_path / "triton.log").read_text(), 30)
            assert client.classify(even(1, 2)).label == "white"
        for version in range(2, 6):
            assert repository.publish("pets", graph, make_spec([f"black {version}", f"white {version}"])) == version
        repository.publish("dogs", graph, SPEC)
        promote(repository, "pets", 5)
        if mode == "poll":
            until(lambda: serves(url, "dogs", "white"), 30)
            until(lambda: serves(url, "pets", "white 5"), 30)
        else:
            assert client.classify(even(1, 2)).version == 1
        assert process.wait(0) is None, "the server ended"


def serves(url: str, model: str, label: str) -> bool:
    try:
        with Client(url, model=model) as client:
            return client.classify(even(1, 2)).label == label
    except TamizError:
        return False
