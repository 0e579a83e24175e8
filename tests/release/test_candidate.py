"""Candidates: what may become a version of a model, and how it was made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_graphs import SPEC as FOREIGN_SPEC
from foreign_graphs import write_foreign
from graphs import make_spec, write_grey_graph
from onnx import TensorProto, helper, numpy_helper

import tamiz_release.candidate
import tamiz_server.version
from tamiz.files import sha256
from tamiz.spec import SPEC_METADATA
from tamiz_release.adaptation import Description, examine
from tamiz_release.candidate import Candidate, find_precision, graph_candidate, run_candidate
from tamiz_release.gate import run_gate
from tamiz_release.graph_publication import publish_graph
from tamiz_release.publication import publish_candidate
from tamiz_server.config import ServingSettings
from tamiz_server.repository import Repository
from tamiz_server.serving_session import session_config
from tamiz_train.graph import read_spec
from tamiz_train.run import Run

SPEC = make_spec(["dark", "bright"])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = write_grey_graph(tmp_path / "model.onnx", SPEC)
    model = onnx.load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=SPEC.to_json())
    onnx.save(model, path)
    return path


def test_a_graph_is_a_candidate_with_the_spec_in_it_and_no_serving_settings(graph: Path, tmp_path: Path) -> None:
    found = examine(graph, confined=False)
    assert graph_candidate(graph, found, tmp_path / "unused") == Candidate(graph, SPEC, "fp32", {}, None, {})


def test_a_graph_of_another_tool_is_a_candidate_after_it_is_adapted_and_says_what_it_was_made_of(
    tmp_path: Path,
) -> None:
    path = write_foreign(tmp_path / "foreign.onnx")
    found = examine(path, Description.from_spec(FOREIGN_SPEC), confined=False)
    (tmp_path / "adapted").mkdir()
    candidate = graph_candidate(path, found, tmp_path / "adapted")
    assert candidate.graph.parent == tmp_path / "adapted"
    assert (read_spec(candidate.graph), candidate.precision, candidate.settings) == (FOREIGN_SPEC, "fp32", None)
    source = candidate.manifest["source"]
    assert (source["file"], source["sha256"]) == ("foreign.onnx", sha256(path))
    assert (source["adaptation"]["layout"], source["adaptation"]["activation"]) == ("NCHW", "softmax")
    assert json.loads(json.dumps(candidate.manifest)) == candidate.manifest
    assert "torch" not in candidate.manifest["libraries"]


def test_the_report_of_the_gate_names_the_file_that_was_given_and_not_the_adapted_one(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "foreign.onnx")
    found = examine(path, Description.from_spec(FOREIGN_SPEC), confined=False)
    repository = Repository(tmp_path / "repository")
    publish_graph(path, repository, "foreign", adaptation=found)
    gate = json.loads((repository.path / "foreign" / "1" / "gate.json").read_text())
    assert gate["candidate"] == f"{path} (fp32)"


def test_a_graph_that_cannot_be_served_is_described_without_the_path_of_a_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    candidate = Candidate(tmp_path / "model.onnx", SPEC, made_from="timm's resnet50")
    report = run_gate(candidate, None, None, model="light", config=session_config(ServingSettings()))
    assert report.candidate == "timm's resnet50 (fp32)"
    assert [str(tmp_path) in check.text for check in report.failures] == [False]


def test_a_graph_is_hashed_once_for_warnings_gate_and_manifest_and_its_copy_once_to_be_the_same(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    for module in (tamiz_release.candidate, tamiz_server.version):
        monkeypatch.setattr(module, "sha256", lambda path: hashed.append(path) or sha256(path))
    repository = Repository(tmp_path / "repository")
    publish_candidate(Candidate(graph, SPEC), repository, "light")
    source, copy = (path for path in hashed if path.suffix == ".onnx")
    assert (source, copy.parent) == (graph, repository.path)
    manifest = repository.live_version("light").manifest
    assert manifest["onnx_sha256"] == manifest["gate"]["onnx_sha256"] == sha256(graph)


def test_the_precision_of_a_graph_is_that_of_its_numbers(graph: Path) -> None:
    assert find_precision(graph) == "fp32"
    model = onnx.load(graph)
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float16), "half"))
    onnx.save(model, graph)
    assert find_precision(graph) == "fp16"
    (scale, zero) = (numpy_helper.from_array(np.array(v), n) for v, n in ((np.float32(1), "s"), (np.uint8(0), "z")))
    node = helper.make_node("QuantizeLinear", ["pixels", "s", "z"], ["quantized"])
    info = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("quantized", TensorProto.UINT8, [1])
    onnx.save(helper.make_model(helper.make_graph([node], "graph", [info], [out], [scale, zero])), graph)
    assert find_precision(graph) == "int8"


@pytest.mark.integration
def test_a_run_is_a_candidate_with_its_serving_settings_and_how_it_was_made(trained: Run, graph: Path) -> None:
    candidate = run_candidate(trained, graph, precision="int8", search={"nodes": 3})
    assert (candidate.graph, candidate.spec, candidate.precision) == (graph, trained.spec, "int8")
    assert candidate.settings == trained.recipe.serving
    assert candidate.manifest["weights_sha256"] == sha256(trained.path / "model.safetensors")
    assert candidate.manifest["search"] == {"nodes": 3}


def test_the_manifest_of_a_published_candidate_names_its_precision_and_its_accelerators(
    graph: Path, tmp_path: Path
) -> None:
    repository = Repository(tmp_path / "repository")
    publish_candidate(Candidate(graph, SPEC, "fp16", manifest={"origin": "elsewhere"}), repository, "light")
    manifest = repository.live_version("light").manifest
    assert {name: manifest[name] for name in ("precision", "accelerators", "origin")} == {
        "precision": "fp16",
        "accelerators": {},
        "origin": "elsewhere",
    }
