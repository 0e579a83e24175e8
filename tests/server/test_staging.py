"""Staged files of publications, also beside a Triton that watches the repository itself, as many operators run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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

SPEC = make_spec(["black", "white"])


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "graph.onnx", SPEC)


class Witness(Mapping[str, Any]):
    """A manifest that records, when it is written, which folders of the repository Triton could take for models."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folders: list[str] = []

    def __iter__(self) -> Iterator[str]:
        self.folders = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())
        return iter(["run"])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> str:
        return {"run": "run"}[key]


def test_a_new_model_is_staged_where_triton_takes_nothing_for_a_model(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    witness = Witness(repository.path)
    repository.publish("cars", graph, SPEC, manifest=witness)
    assert witness.folders == ["pets"]
    assert repository.live_version("cars").manifest["run"] == "run"


def test_a_new_model_is_published_beside_one_whose_folder_is_not_writable(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    folder = repository.path / "pets"
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("root may write everywhere")
    assert repository.publish("cars", graph, SPEC) == 1


def test_a_new_model_is_published_beside_one_that_is_a_link(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    elsewhere = repository.path.parent / "elsewhere"
    (repository.path / "pets").rename(elsewhere)
    (repository.path / "pets").symlink_to(elsewhere)
    before = elsewhere.stat().st_mtime_ns
    assert repository.publish("cars", graph, SPEC) == 1
    assert elsewhere.stat().st_mtime_ns == before, "the link may lead to another file system"


def test_what_a_killed_publication_left_behind_is_removed_by_the_next_change(
    repository: Repository, graph: Path
) -> None:
    repository.publish("pets", graph, SPEC)
    for folder in (repository.path / ".tamiz-staging" / "1", repository.path / "pets" / ".tamiz-staging"):
        folder.mkdir(parents=True)
    for file in (repository.path / ".tamiz-staging.onnx", repository.path / "pets" / ".tamiz-staging.pbtxt"):
        file.write_text("half")
    assert repository.models() == ["pets"]
    assert repository.publish("pets", graph, SPEC) == 2
    assert not list(repository.path.rglob(".tamiz*"))


def test_a_publication_that_is_killed_at_any_moment_leaves_a_complete_repository(
    repository: Repository, graph: Path
) -> None:
    repository.publish("pets", graph, SPEC)
    code = (
        "import sys; from tamiz import ModelSpec; from tamiz_server.repository import Repository\n"
        "spec = ModelSpec.from_json(sys.argv[3])\n"
        "print('go', flush=True)\n"
        "while True: Repository(sys.argv[1]).publish('pets', sys.argv[2], spec)"
    )
    command = [sys.executable, "-c", code, str(repository.path), str(graph), SPEC.to_json()]
    for pause in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(0.05 + 0.013 * pause)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        process.stdout.close()
        # Every version can be read, the live one is still the first, and the next publication succeeds.
        versions = repository.versions("pets")
        assert versions[0].live
        assert repository.publish("pets", graph, SPEC) == versions[-1].version + 1


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


@pytest.mark.integration
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
