"""Staged files of publications, also beside a Triton that watches the repository itself, as many operators run it."""

from __future__ import annotations

import errno
import os
import signal
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
from tamiz.locks import open_locked
from tamiz_server.config import read_published_versions
from tamiz_server.installation import find_installation
from tamiz_server.ports import LOOPBACK, Ports, choose_ports
from tamiz_server.process import ServerProcess
from tamiz_server.promotion import promote
from tamiz_server.readiness import wait_until_ready
from tamiz_server.repository import Repository
from tamiz_server.verification import verify

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
        assert set(repository.version_numbers("pets")) <= read_published_versions(repository.config("pets"))
        assert repository.publish("pets", graph, SPEC) > versions[-1].version


def publish_until(stop: str, repository: Path, graph: Path) -> None:
    """Publish a version in a process that is killed before a file or folder gets a name that ends with ``stop``."""
    code = (
        "import os, signal, sys\n"
        "from tamiz import ModelSpec\n"
        "from tamiz_server.repository import Repository\n"
        "rename = os.replace\n"
        "def kill_before(source, target):\n"
        "    if str(target).endswith(sys.argv[4]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    rename(source, target)\n"
        "os.replace = kill_before\n"
        "Repository(sys.argv[1]).publish('pets', sys.argv[2], ModelSpec.from_json(sys.argv[3]))"
    )
    done = subprocess.run([sys.executable, "-c", code, repository, graph, SPEC.to_json(), stop], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("stop", ["/2", "/config.pbtxt"])
def test_each_version_that_a_killed_publication_leaves_has_its_spec_in_the_configuration(
    stop: str, repository: Repository, graph: Path
) -> None:
    repository.publish("pets", graph, SPEC)
    publish_until(stop, repository.path, graph)
    assert set(repository.version_numbers("pets")) <= read_published_versions(repository.config("pets"))
    version = repository.publish("pets", graph, SPEC)
    assert verify(repository).findings == ()
    promote(repository, "pets", version)
    assert read_published_versions(repository.config("pets")) == {1, version}


def test_everything_reaches_the_disk_before_it_appears_in_the_repository(
    repository: Repository, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss cannot be tried; so the order of the calls that guard against one is checked, which are all real."""
    synced: set[Path] = set()
    renamed: list[Path] = []
    unsynced: list[Path] = []
    sync, rename = os.fsync, os.replace

    def recording_sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    def recording_rename(source: Path, target: Path) -> None:
        unsynced.extend(path for path in (source, *source.rglob("*")) if path not in synced)
        rename(source, target)
        renamed.append(target)
        # The names in both folders have changed, and another file may be staged under the same name.
        synced.difference_update({source, source.parent, target.parent})

    monkeypatch.setattr(os, "fsync", recording_sync)
    monkeypatch.setattr(os, "replace", recording_rename)
    repository.publish("pets", graph, SPEC)
    repository.publish("pets", graph, SPEC)
    promote(repository, "pets", 2)
    pets = repository.path / "pets"
    assert {pets, pets / "2", pets / "config.pbtxt"} <= set(renamed)
    assert unsynced == []
    assert {repository.path, pets} <= synced, "the new names reach the disk too"


def test_a_configuration_keeps_its_mode_and_owner(repository: Repository, graph: Path) -> None:
    repository.publish("pets", graph, SPEC)
    config = repository.path / "pets" / "config.pbtxt"
    config.chmod(0o640)
    other = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(config, *other)
    repository.publish("pets", graph, SPEC)
    promote(repository, "pets", 2)
    status = config.stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, *other)


def test_the_lock_is_released_if_what_was_staged_cannot_be_removed(
    repository: Repository, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    repository.publish("pets", graph, SPEC)
    (repository.path / ".tamiz-staging.onnx").write_text("half")
    # An immutable file, which not even root may delete.
    monkeypatch.setattr(Path, "unlink", refuse)
    promote(repository, "pets", 1)
    descriptor = open_locked(repository.path)
    assert descriptor is not None
    os.close(descriptor)


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
