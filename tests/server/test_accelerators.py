"""Accelerators in config.pbtxt: those of the version that is live, unless an operator wrote others."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from graphs import make_spec, write_grey_graph

from tamiz import RepositoryError
from tamiz_server.promotion import promote, rollback
from tamiz_server.repository import Repository

SPEC = make_spec(["a", "b"])
OPENVINO = {"cpu_execution_accelerator": [{"name": "openvino"}]}
TENSORRT = {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": {"trt_engine_cache_enable": "1"}}]}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a version for each kind of accelerators; the first one, of OpenVINO, is live."""
    repository = Repository(tmp_path / "models")
    graph = write_grey_graph(tmp_path / "graph.onnx", SPEC)
    for accelerators in (OPENVINO, {}, TENSORRT):
        repository.publish("pets", graph, SPEC, manifest={"accelerators": accelerators})
    repository.publish("pets", graph, SPEC)
    return repository


def configured(repository: Repository) -> dict:
    document = MessageToDict(repository.config("pets"), preserving_proto_field_name=True)
    return document.get("optimization", {}).get("execution_accelerators", {})


def test_the_live_version_has_its_accelerators_in_the_configuration(repository: Repository) -> None:
    assert configured(repository) == OPENVINO
    promote(repository, "pets", 3)
    assert configured(repository) == TENSORRT
    promote(repository, "pets", 2)
    assert configured(repository) == {}
    rollback(repository, "pets")
    assert configured(repository) == TENSORRT
    promote(repository, "pets", 4)
    assert configured(repository) == {}


def test_accelerators_that_an_operator_wrote_stay(repository: Repository) -> None:
    promote(repository, "pets", 2)
    path = repository.path / "pets" / "config.pbtxt"
    path.write_text(
        path.read_text()
        + 'optimization { execution_accelerators { cpu_execution_accelerator: [ { name: "openvino" } ] } }\n'
    )
    promote(repository, "pets", 3)
    assert configured(repository) == OPENVINO


def test_other_optimizations_stay(repository: Repository) -> None:
    path = repository.path / "pets" / "config.pbtxt"
    text = path.read_text()
    assert "optimization {" in text
    path.write_text(text.replace("optimization {", "optimization {\n  graph { level: 1 }", 1))
    promote(repository, "pets", 2)
    assert repository.config("pets").optimization.graph.level == 1
    assert configured(repository) == {}


@pytest.mark.parametrize("accelerators", [{"cpu": "openvino"}, "tensorrt"])
def test_what_triton_does_not_know_is_no_accelerator(accelerators: object, tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "graph.onnx", SPEC)
    repository = Repository(tmp_path / "models")
    with pytest.raises(RepositoryError, match="not those of Triton"):
        repository.publish("pets", graph, SPEC, manifest={"accelerators": accelerators})
    assert repository.models() == []
