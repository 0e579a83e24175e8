"""Versions that are pulled from MLflow's registry, with real stores."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from graphs import make_spec, write_published_graph
from mlflow import MlflowClient

from tamiz import ExportError, TrackingError, UsageError
from tamiz.files import sha256
from tamiz_release.registered_publication import publish_registered
from tamiz_release.registered_version import pull
from tamiz_release.registry import synchronise
from tamiz_server.promotion import promote
from tamiz_server.repository import Repository

pytestmark = pytest.mark.integration
MODEL = "pets"


@pytest.fixture
def source(mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A repository with two versions of the model ``pets``, the second one live, all registered in MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    MlflowClient(mlflow_uri).create_experiment(MODEL, str(tmp_path / "artifacts"))
    repository = Repository(tmp_path / "source")
    for labels in (["cat", "dog"], ["cat", "dog", "cow"]):
        spec = make_spec(labels)
        manifest = {"run": "r1", "serving": {"max_batch_size": 3}, "metrics": {"test": {"accuracy": 0.5}}}
        repository.publish(MODEL, write_published_graph(tmp_path / "graph.onnx", spec), spec, manifest=manifest)
    promote(repository, MODEL, 2)
    synchronise(repository, MODEL)
    return repository


@pytest.fixture
def artifacts(source: Repository, mlflow_uri: str) -> Path:
    """The folder of the artifacts of the champion."""
    return Path(MlflowClient(mlflow_uri).get_model_version_by_alias(MODEL, "champion").source)


@pytest.mark.parametrize(("uri", "version"), [("models:/pets@champion", 2), ("models:/pets/1", 1)])
def test_a_version_is_published_from_the_registry_as_it_was(
    uri: str, version: int, source: Repository, tmp_path: Path
) -> None:
    target, lines = Repository(tmp_path / "target"), []
    published = publish_registered(uri, target, on_progress=lines.append)
    assert (published.model, published.version, published.live) == (MODEL, 1, 1)
    assert lines[0].startswith(f"pulled version {version} of pets from sqlite:///")
    pulled, original = target.live_version(MODEL), source.versions(MODEL)[version - 1]
    assert pulled.spec == original.spec
    for name in ("onnx_sha256", "spec_sha256", "run", "metrics"):
        assert pulled.manifest[name] == original.manifest[name]
    assert pulled.manifest["registry"]["version"] == str(version)
    assert pulled.manifest["version"] == 1
    assert target.config(MODEL).max_batch_size == 3


def test_a_pulled_version_is_not_registered_a_second_time(source: Repository, mlflow_uri: str, tmp_path: Path) -> None:
    target = Repository(tmp_path / "target")
    publish_registered("models:/pets/1", target)
    client = MlflowClient(mlflow_uri)
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
    # The repository that changed last decides about the aliases.
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == "1"


def test_the_command_publishes_from_a_database_in_the_current_folder(
    source: Repository, mlflow_uri: str, tmp_path: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "work").mkdir()
    shutil.copyfile(mlflow_uri.removeprefix("sqlite:///"), tmp_path / "work" / "mlflow.db")
    done = tamiz("publish", "models:/pets@champion", "--model", "animals", cwd=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert "published animals version 1 in model_repository" in done.stdout
    done = tamiz("publish", "models:/pets@nobody", cwd=tmp_path / "work")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nobody" in done.stderr
    (tmp_path / "elsewhere").mkdir()
    done = tamiz("publish", "models:/pets@champion", cwd=tmp_path / "elsewhere")
    assert done.returncode == 2
    assert "no MLflow is configured: set MLFLOW_TRACKING_URI" in done.stderr


@pytest.mark.parametrize(
    "uri", ["models:/pets", "models:/pets@", "models:/pets/", "models:/pets/latest", "models:/../x@a", "models:/a'b@c"]
)
def test_a_malformed_name_is_a_usage_error(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name a version or an alias, as in models:/digits/3"):
        pull(uri, tmp_path)


@pytest.mark.parametrize("uri", ["models:/pets@nobody", "models:/pets/77", "models:/cars/1"])
def test_a_version_that_is_not_registered_is_a_tracking_error(uri: str, source: Repository, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(TrackingError, match="mlflow.db"):
        pull(uri, tmp_path / "out")


@pytest.mark.parametrize("name", ["model.onnx", "spec.json", "manifest.json"])
def test_a_file_that_was_changed_in_the_registry_is_refused(
    name: str, artifacts: Path, source: Repository, tmp_path: Path
) -> None:
    path = artifacts / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(TrackingError, match=rf"{name} is not the one that was published: its SHA-256 is "):
        publish_registered("models:/pets@champion", Repository(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["model.onnx", "spec.json", "manifest.json"])
def test_a_version_that_tamiz_did_not_register_is_refused(name: str, artifacts: Path, tmp_path: Path) -> None:
    (artifacts / name).unlink()
    with pytest.raises(TrackingError, match=f"has no {name}: it was not registered by Tamiz"):
        publish_registered("models:/pets@champion", Repository(tmp_path / "target"))


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened_even_if_its_hashes_are_right(
    artifacts: Path, mlflow_uri: str, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    (artifacts / "python_model.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    (artifacts / "model.onnx").write_bytes(pickle.dumps(Trap(sprung)))
    manifest = json.loads((artifacts / "manifest.json").read_text())
    manifest["onnx_sha256"] = sha256(artifacts / "model.onnx")
    (artifacts / "manifest.json").write_text(json.dumps(manifest))
    client = MlflowClient(mlflow_uri)
    version = client.get_model_version_by_alias(MODEL, "champion").version
    for name, file in (("onnx_sha256", "model.onnx"), ("manifest_sha256", "manifest.json")):
        client.set_model_version_tag(MODEL, version, f"tamiz.{name}", sha256(artifacts / file))
    with pytest.raises(ExportError, match="not an ONNX file"):
        publish_registered("models:/pets@champion", Repository(tmp_path / "target"))
    assert not sprung.exists()
    # The trap works.
    pickle.loads((artifacts / "python_model.pkl").read_bytes())
    assert sprung.exists()


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(content: str, artifacts: Path, tmp_path: Path) -> None:
    (artifacts / "manifest.json").write_text(content)
    with pytest.raises(TrackingError, match="manifest.json is no manifest: "):
        publish_registered("models:/pets@champion", Repository(tmp_path / "target"))
