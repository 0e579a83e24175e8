"""Sessions for measurements: those of the backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from graphs import even, make_spec, write_grey_graph

from tamiz import ExportError
from tamiz.spec import INPUT_NAME, OUTPUT_NAME
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import find_missing_gpu, open_serving_session, session_config

OPENVINO = {"cpu_execution_accelerator": [{"name": "unknown"}]}


def test_a_session_has_the_threads_of_the_serving_settings(tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "model.onnx", make_spec(["dark", "light"]))
    session = open_serving_session(graph, session_config(ServingSettings(threads=3)))
    assert session.get_session_options().intra_op_num_threads == 3
    (probabilities,) = session.run([OUTPUT_NAME], {INPUT_NAME: np.stack([even(1, 2)[..., None]])})
    assert probabilities.argmax() == 1


def test_the_configuration_has_the_accelerators() -> None:
    config = session_config(ServingSettings(), OPENVINO)
    assert config["optimization"] == {"execution_accelerators": OPENVINO}
    assert config["backend"] == "onnxruntime"
    assert "optimization" not in session_config(ServingSettings())


def test_an_accelerator_that_cannot_be_used_is_an_error_with_the_reason(tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "model.onnx", make_spec(["dark", "light"]))
    with pytest.raises(ExportError, match="cannot be served on this machine: cpu_execution_accelerator unknown: not"):
        open_serving_session(graph, session_config(ServingSettings(), OPENVINO))


def test_a_file_that_is_no_graph_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"model.onnx: cannot be served on this machine: .*"):
        open_serving_session(tmp_path / "model.onnx", session_config(ServingSettings()))


def on_gpu(name: str) -> dict:
    return session_config(ServingSettings(), {"gpu_execution_accelerator": [{"name": name}]})


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_an_accelerator_for_a_gpu_is_refused_on_a_cpu_with_the_remedy(name: str, tmp_path: Path) -> None:
    graph = write_grey_graph(tmp_path / "model.onnx", make_spec(["dark", "light"]))
    with pytest.raises(ExportError, match=f"gpu_execution_accelerator {name}: this instance runs on a CPU; serve the"):
        open_serving_session(graph, on_gpu(name))


def test_what_a_gpu_needs_is_named_where_it_is_missing() -> None:
    available = ort.get_available_providers()
    if "TensorrtExecutionProvider" in available:
        pytest.skip("this ONNX Runtime has TensorRT")
    assert find_missing_gpu(on_gpu("tensorrt")) == "tensorrt: this ONNX Runtime has no TensorrtExecutionProvider"
    assert find_missing_gpu(session_config(ServingSettings())) is None
    assert find_missing_gpu(session_config(ServingSettings(), OPENVINO)) is None
