from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from conftest import Served
from graphs import make_spec, write_grey_graph

from tamiz_server.repository import Repository

Tamiz = Callable[..., subprocess.CompletedProcess[str]]


def test_the_models_of_a_repository_are_listed(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    for _ in range(2):
        repository.publish("pets", graph, spec, manifest={"metrics": {"test": {"accuracy": 0.98765}}})
    table = tamiz("models", "--repository", repository.path).stdout
    assert "test accuracy" in table
    assert "0.9877" in table
    rows = json.loads(tamiz("models", "--repository", repository.path, "--json").stdout)
    assert [(row["model"], row["version"], row["live"], row["test_accuracy"]) for row in rows] == [
        ("pets", 1, True, 0.98765),
        ("pets", 2, False, 0.98765),
    ]


def test_a_model_that_is_damaged_does_not_hide_the_others(tamiz: Tamiz, tmp_path: Path) -> None:
    repository, spec = Repository(tmp_path / "models"), make_spec(["a", "b"])
    graph = write_grey_graph(tmp_path / "graph.onnx", spec)
    for model in ("cats", "dogs"):
        repository.publish(model, graph, spec)
    (repository.path / "cats" / "1" / "spec.json").write_text("damaged")
    done = tamiz("models", "--repository", repository.path)
    assert done.returncode == 0
    assert "dogs" in done.stdout
    assert "cats" not in done.stdout
    assert "skipped: model cats version 1 is damaged" in done.stderr


def test_a_repository_without_models_is_not_an_error(tamiz: Tamiz, tmp_path: Path) -> None:
    done = tamiz("models", "--repository", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"no models in {tmp_path}\n")


def test_the_models_of_a_running_server_are_listed(served: Served, tamiz: Tamiz) -> None:
    done = tamiz("models", "--url", served.triton.url, "--key", served.triton.key)
    assert "grey" in done.stdout
    assert "READY" in done.stdout
