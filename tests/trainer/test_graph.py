"""Reading the spec of an ONNX graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import make_spec, save_graph, write_grey_graph
from onnx import TensorProto, helper

from tamiz import ExportError
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA
from tamiz_train.graph import read_spec


def test_only_a_graph_that_tamiz_exported_and_that_matches_its_spec_is_accepted(tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "graph.onnx", make_spec(["a", "b"]))
    with pytest.raises(ExportError, match="no tamiz.spec in its metadata"):
        read_spec(graph)
    # The spec of another graph.
    model = onnx.load(graph)
    model.metadata_props.add(key=SPEC_METADATA, value=make_spec(["a", "b", "c"]).to_json())
    onnx.save(model, graph)
    with pytest.raises(ExportError, match=r"output for 7 images and 3 labels is float32 \[7, 2\]"):
        read_spec(graph)
    model.metadata_props[0].value = make_spec(["a", "b"], 32, 32).to_json()
    onnx.save(model, graph)
    with pytest.raises(ExportError, match="does not match its spec"):
        read_spec(graph)
    graph.write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="not an ONNX file"):
        read_spec(graph)


def write_model(path: Path, last: list, *, task: str = "multiclass") -> Path:
    """A graph of three labels whose outputs are computed from the mean grey by the given last nodes."""
    options = {"task": task, "thresholds": (0.5,) * 3} if task == "multilabel" else {}
    spec = make_spec(["a", "b", "c"], 8, 8, **options)
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        *last,
    ]
    constants = {"weight": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32) / 200}
    inputs = [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", 8, 8, 1])]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", 3])]
    save_graph(path, nodes, inputs, outputs, constants)
    model = onnx.load(path)
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)
    return path


def node(operator: str, *inputs: str, output: str = OUTPUT_NAME, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, [*inputs], [output], **attributes)


@pytest.mark.parametrize(
    ("last", "task", "message"),
    [
        (
            [node("Identity", "logits")],
            "multiclass",
            r"they lie between -.* and .*, not between 0 and 1; if they are lo",
        ),
        (
            [node("Identity", "logits")],
            "multilabel",
            "not between 0 and 1; if they are logits, end the graph with a si",
        ),
        ([node("Sigmoid", "logits")], "multiclass", "those of an image sum to between .*, not to 1; .* with a softmax"),
        ([node("Log", "logits")], "multiclass", r"\d+ of 21 values are NaN or infinite"),
    ],
    ids=["logits", "logits of several labels", "sigmoid of one label", "NaN"],
)
def test_a_graph_whose_outputs_are_not_probabilities_is_refused(
    last: list, task: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"its outputs are not probabilities: .*{message}"):
        read_spec(write_model(tmp_path / "model.onnx", last, task=task))


@pytest.mark.parametrize(
    ("last", "task"),
    [
        ([node("Softmax", "logits")], "multiclass"),
        ([node("Sigmoid", "logits")], "multilabel"),
        (
            [
                node("Cast", "logits", output="half", to=TensorProto.FLOAT16),
                node("Softmax", "half", output="rounded"),
                node("Cast", "rounded", to=TensorProto.FLOAT),
            ],
            "multiclass",
        ),
    ],
    ids=["softmax", "sigmoid", "softmax in half precision"],
)
def test_a_graph_whose_outputs_are_probabilities_is_accepted(last: list, task: str, tmp_path: Path) -> None:
    assert read_spec(write_model(tmp_path / "model.onnx", last, task=task)).task == task
