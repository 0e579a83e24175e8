"""MLflow's registry as a mirror of a repository, with real stores."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fresh_python import BLOCK_TORCH, run_python
from graphs import make_spec, write_published_graph
from mlflow import MlflowClient

from tamiz_release.registry import synchronise
from tamiz_release.run_publication import publish_run
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout
from tamiz_server.verification import verify
from tamiz_train.run import Run

Tamiz = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.integration
MODEL = "pets"


def synchronised(repository: Repository, model: str = MODEL) -> list[str]:
    lines: list[str] = []
    synchronise(repository, model, on_progress=lines.append)
    return lines


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


@pytest.fixture
def publish(repository: Repository, mlflow_uri: str, tmp_path: Path) -> Callable[..., int]:
    """Publishes a version of the model ``pets`` whose manifest names the store."""

    def publish(**manifest: object) -> int:
        spec = make_spec(["cat", "dog"])
        graph = write_published_graph(tmp_path / "graph.onnx", spec)
        return repository.publish(MODEL, graph, spec, manifest={"mlflow_tracking_uri": mlflow_uri, **manifest})

    return publish


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}


def versions(client: MlflowClient) -> list[tuple[str, str]]:
    """The version in the repository of each registered version, by the number of the latter."""
    found = client.search_model_versions(f"name = '{MODEL}'")
    return sorted((str(each.version), each.tags["tamiz.version"]) for each in found)


def test_a_published_version_is_registered_with_its_run_its_hashes_and_its_files(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str, tmp_path: Path
) -> None:
    client = MlflowClient(mlflow_uri)
    run_id = client.create_run(client.create_experiment("training", str(tmp_path / "artifacts"))).info.run_id
    publish(mlflow_run_id=run_id)
    assert synchronised(repository) == [
        "registered pets version 1 in MLflow as version 1",
        "champion of pets in MLflow is version 1",
    ]
    registered = client.get_model_version_by_alias(MODEL, "champion")
    manifest = repository.live_version(MODEL).manifest
    assert registered.run_id == run_id
    assert registered.tags["tamiz.version"] == "1"
    assert registered.tags["tamiz.onnx_sha256"] == manifest["onnx_sha256"]
    assert registered.tags["tamiz.spec_sha256"] == manifest["spec_sha256"]
    for name in ("model.onnx", "spec.json", "manifest.json"):
        assert (Path(registered.source) / name).read_bytes() == (repository.path / MODEL / "1" / name).read_bytes()
    assert synchronised(repository) == []


def test_the_aliases_follow_the_state_of_the_repository(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str
) -> None:
    client = MlflowClient(mlflow_uri)
    for _ in range(3):
        publish()
    synchronised(repository)
    assert versions(client) == [("1", "1"), ("2", "2"), ("3", "3")]
    assert aliases(client) == {"champion": "1", "challenger": "3"}
    for share in ({"canary": 0.1}, {"shadow": 0.1}):
        start_rollout(repository, MODEL, 2, **share)
        assert synchronised(repository) == ["challenger of pets in MLflow is version 2"]
        rollback(repository, MODEL)
        assert synchronised(repository) == ["challenger of pets in MLflow is version 3"]
    promote(repository, MODEL, 3)
    assert synchronised(repository) == [
        "champion of pets in MLflow is version 3",
        "challenger of pets in MLflow is no version any more",
    ]
    rollback(repository, MODEL)
    synchronised(repository)
    assert aliases(client) == {"champion": "1", "challenger": "3"}


def test_the_commands_promote_and_rollback_move_the_aliases(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str, tamiz: Tamiz
) -> None:
    client = MlflowClient(mlflow_uri)
    publish()
    publish()
    done = tamiz("promote", MODEL, 2, "--repository", repository.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("champion of pets in MLflow is version 2\n")
    assert done.stderr == ""
    assert aliases(client) == {"champion": "2"}
    assert tamiz("rollback", MODEL, "--repository", repository.path).returncode == 0
    assert aliases(client) == {"champion": "1", "challenger": "2"}


def test_what_a_store_that_was_down_has_missed_is_made_up_for(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str, tmp_path: Path, tamiz: Tamiz
) -> None:
    store = Path(mlflow_uri.removeprefix("sqlite:///"))
    publish()
    store.rename(tmp_path / "away.db")
    (line,) = synchronised(repository)
    assert line.startswith(
        f"warning: pets is not up to date in MLflow's registry: {mlflow_uri}: no such file; the next"
    )
    assert not store.exists()
    publish()
    done = tamiz("promote", MODEL, 2, "--repository", repository.path)
    assert (done.returncode, "warning: pets is not up to date" in done.stdout) == (0, True)
    assert repository.live_version(MODEL).version == 2
    (tmp_path / "away.db").rename(store)
    synchronised(repository)
    assert versions(MlflowClient(mlflow_uri)) == [("1", "1"), ("2", "2")]
    assert aliases(MlflowClient(mlflow_uri)) == {"champion": "2"}


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "postgresql://someone@127.0.0.1:{port}/mlflow"])
def test_a_server_that_is_down_is_a_warning_within_seconds(
    uri: str, publish: Callable[..., int], repository: Repository
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    publish(mlflow_tracking_uri=uri.format(port=port))
    began = time.monotonic()
    (line,) = synchronised(repository)
    assert time.monotonic() - began < 30
    assert f"no answer from 127.0.0.1:{port}: Connection refused; the next" in line


def test_a_server_that_is_no_mlflow_is_a_warning(publish: Callable[..., int], repository: Repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        port = server.getsockname()[1]

        def answer() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    if connection.recv(4096):
                        connection.sendall(
                            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
                        )

        publish(mlflow_tracking_uri=f"http://127.0.0.1:{port}")
        pool.submit(answer)
        (line,) = synchronised(repository)
        server.shutdown(socket.SHUT_RDWR)
    assert line.startswith("warning: pets is not up to date in MLflow's registry: http://127.0.0.1:")


def test_without_mlflow_nothing_is_said_and_nothing_is_imported(repository: Repository, tmp_path: Path) -> None:
    spec = make_spec(["cat", "dog"])
    repository.publish(MODEL, write_published_graph(tmp_path / "graph.onnx", spec), spec)
    run_python(
        f"{BLOCK_TORCH}\nfrom tamiz_release.registry import synchronise\nfrom tamiz_server import Repository\n"
        f"synchronise(Repository({str(repository.path)!r}), {MODEL!r}, on_progress=sys.exit)"
    )


def test_without_the_package_mlflow_a_configured_store_is_a_warning(
    publish: Callable[..., int], repository: Repository
) -> None:
    publish()
    run_python(
        f"{BLOCK_TORCH}\nfrom tamiz_release.registry import synchronise\nfrom tamiz_server import Repository\n"
        f"lines = []\nsynchronise(Repository({str(repository.path)!r}), {MODEL!r}, on_progress=lines.append)\n"
        "assert len(lines) == 1 and 'mlflow is not installed' in lines[0], lines"
    )


def test_a_version_whose_run_is_not_in_the_store_gets_a_run_of_its_own(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str
) -> None:
    client = MlflowClient(mlflow_uri)
    client.create_experiment(MODEL, str(repository.path.parent / "artifacts"))
    for run_id in (None, "0" * 32, "no id/..", 5):
        publish(mlflow_run_id=run_id)
    synchronised(repository)
    assert len(versions(client)) == 4
    for registered in client.search_model_versions(f"name = '{MODEL}'"):
        run = client.get_run(registered.run_id)
        assert run.info.run_name == f"pets version {registered.tags['tamiz.version']}"
        assert run.info.status == "FINISHED"


def test_two_commands_at_once_register_each_version_once(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str, tamiz: Tamiz
) -> None:
    for _ in range(4):
        publish()
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(lambda number: tamiz("promote", MODEL, number, "--repository", repository.path), (2, 3, 4))
        assert [each.returncode for each in done] == [0, 0, 0]
    client = MlflowClient(mlflow_uri)
    assert sorted(number for _, number in versions(client)) == ["1", "2", "3", "4"]
    synchronised(repository)
    champion = client.get_model_version_by_alias(MODEL, "champion")
    assert champion.tags["tamiz.version"] == str(repository.live_version(MODEL).version)


def test_a_version_with_a_changed_file_is_not_registered_and_hides_no_other(
    publish: Callable[..., int], repository: Repository, mlflow_uri: str
) -> None:
    publish()
    publish()
    publish()
    (repository.path / MODEL / "2" / "model.onnx").write_bytes(b"changed")
    (repository.path / MODEL / "3" / "manifest.json").write_text("{")
    lines = synchronised(repository)
    assert [line for line in lines if line.startswith("warning: not registered in MLflow: ")] == lines[:1] + lines[2:3]
    assert "version 3 is damaged" in lines[0]
    assert "2/model.onnx is not the file that was published" in lines[2]
    assert versions(MlflowClient(mlflow_uri)) == [("1", "1")]


def test_a_tracked_run_is_registered_with_its_run_when_it_is_published(
    run: Run, repository: Repository, mlflow_uri: str, tmp_path: Path
) -> None:
    client = MlflowClient(mlflow_uri)
    run_id = client.create_run(client.create_experiment("digits", str(tmp_path / "artifacts"))).info.run_id
    recipe = run.recipe.model_copy(update={"tracking": run.recipe.tracking.model_copy(update={"uri": mlflow_uri})})
    (run.path / "recipe.yaml").write_text(recipe.to_yaml())
    metrics = json.loads((run.path / "metrics.json").read_text())
    (run.path / "metrics.json").write_text(json.dumps({**metrics, "mlflow_run_id": run_id}))
    lines: list[str] = []
    publish_run(Run(run.path), repository, on_progress=lines.append)
    live = next(index for index, line in enumerate(lines) if "version 1 is live" in line)
    assert lines.index("registered digits version 1 in MLflow as version 1") > live
    registered = client.get_model_version_by_alias("digits", "champion")
    assert registered.run_id == run_id
    # The report of the gate and what else belongs to the version, too.
    published = {path.name for path in (repository.path / "digits" / "1").iterdir()}
    assert {path.name for path in Path(registered.source).iterdir()} == published
    assert verify(repository).findings == ()


def test_the_variable_of_mlflow_names_the_registry_of_a_repository_that_was_never_tracked(
    repository: Repository, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    MlflowClient(mlflow_uri).create_experiment(MODEL, str(tmp_path / "artifacts"))
    spec = make_spec(["cat", "dog"])
    repository.publish(MODEL, write_published_graph(tmp_path / "graph.onnx", spec), spec)
    synchronised(repository)
    assert aliases(MlflowClient(mlflow_uri)) == {"champion": "1"}
