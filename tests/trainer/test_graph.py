"""Reading the spec of an ONNX graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from graphs import make_spec, write_grey_graph

from tamiz import ExportError
from tamiz.spec import SPEC_METADATA
from tamiz_train.graph import read_spec


def test_only_a_graph_that_tamiz_exported_and_that_matches_its_spec_is_accepted(tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "graph.onnx", make_spec(["a", "b"]))
    with pytest.raises(ExportError, match="no tamiz.spec in its metadata"):
        read_spec(graph)
    # The spec of another graph.
    model = onnx.load(graph)
    model.metadata_props.add(key=SPEC_METADATA, value=make_spec(["a", "b", "c"]).to_json())
    onnx.save(model, graph)
    with pytest.raises(ExportError, match=r"output for 2 images and 3 labels is float32 \[2, 2\]"):
        read_spec(graph)
    model.metadata_props[0].value = make_spec(["a", "b"], 32, 32).to_json()
    onnx.save(model, graph)
    with pytest.raises(ExportError, match="does not match its spec"):
        read_spec(graph)
    graph.write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="not an ONNX file"):
        read_spec(graph)
