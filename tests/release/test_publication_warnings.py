"""Warnings before a publication."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from graphs import make_spec, write_grey_graph

from tamiz.files import sha256
from tamiz_release.publication_warnings import run_warnings, version_warnings
from tamiz_server.repository import Repository
from tamiz_train.run import Run

SPEC = make_spec(["a", "b"])


def manifest(accuracy: float, test: str | None = "same", **entries: Any) -> dict[str, Any]:
    return {"metrics": {"test": {"accuracy": accuracy, "f1": 1.0}}, "contents": {"test": test}, **entries}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_grey_graph(tmp_path / "graph.onnx", SPEC)


@pytest.fixture
def repository(tmp_path: Path, graph: Path) -> Repository:
    repository = Repository(tmp_path / "models")
    repository.publish("pets", graph, SPEC, manifest=manifest(0.9, weights_sha256="w1"))
    return repository


def test_a_first_version_is_published_without_a_warning(tmp_path: Path) -> None:
    assert version_warnings(Repository(tmp_path / "none"), "pets", SPEC, manifest(0.1)) == []


def test_a_graph_that_is_already_there_is_named_with_its_version(repository: Repository, graph: Path) -> None:
    same = {"onnx_sha256": sha256(graph)}
    assert version_warnings(repository, "pets", SPEC, same) == ["identical to version 1 of pets"]
    assert version_warnings(repository, "pets", make_spec(["c", "d"]), same) == []


def test_the_same_weights_are_identical_however_they_were_exported(repository: Repository) -> None:
    same = version_warnings(repository, "pets", SPEC, manifest(0.9, weights_sha256="w1"))
    assert same == ["identical to version 1 of pets"]
    assert version_warnings(repository, "pets", SPEC, manifest(0.9, weights_sha256="w2")) == []
    quantized = manifest(0.9, weights_sha256="w1") | {"precision": "int8"}
    assert version_warnings(repository, "pets", SPEC, quantized) == []


@pytest.mark.parametrize(
    ("test", "images"),
    [("same", "on the same test images"), ("drawn anew", "on other test images; `tamiz compare`"), (None, "on other")],
)
def test_a_graph_that_is_worse_than_the_live_version_is_warned_of(
    test: str | None, images: str, repository: Repository
) -> None:
    (warning,) = version_warnings(repository, "pets", SPEC, manifest(0.8, test))
    assert warning.startswith("worse than the live version 1: test accuracy 0.8000, that of the live version is 0.9000")
    assert images in warning
    assert version_warnings(repository, "pets", SPEC, manifest(0.95, test)) == []


def test_a_damaged_version_does_not_stop_the_comparison_with_a_new_graph(repository: Repository) -> None:
    (repository.path / "pets" / "1" / "manifest.json").write_text("damaged")
    assert version_warnings(repository, "pets", SPEC, manifest(0.8)) == []


def copy_with_accuracy(run: Run, name: str, accuracy: float) -> Run:
    copy = Run(Path(shutil.copytree(run.path, run.path.parent / name)))
    metrics = json.loads((copy.path / "metrics.json").read_text())
    metrics["validation"]["accuracy"] = accuracy
    (copy.path / "metrics.json").write_text(json.dumps(metrics))
    return copy


def test_a_run_that_is_not_the_best_of_its_folder_is_warned_of_and_the_best_one_is_named(run: Run) -> None:
    good, best = copy_with_accuracy(run, "good", 0.998), copy_with_accuracy(run, "best", 0.999)
    (run.path.parent / "unfinished").mkdir()
    (run.path.parent / "damaged").mkdir()
    (run.path.parent / "damaged" / "metrics.json").write_text("{")
    assert run_warnings(best) == []
    (warning,) = run_warnings(good)
    assert warning == (
        f"not the best run of its folder: validation accuracy 0.9980, that of {best.path} is 0.9990 on the same images"
    )


def test_runs_with_other_validation_images_are_not_compared(run: Run) -> None:
    best = copy_with_accuracy(run, "best", 1.5)
    assert len(run_warnings(run)) == 1
    data = json.loads((best.path / "data.json").read_text())
    data["contents"]["validation"] = "others"
    (best.path / "data.json").write_text(json.dumps(data))
    assert run_warnings(run) == []
    (run.path / "data.json").unlink()
    assert run_warnings(run) == []
