"""The Python-based ONNX Runtime backend, through a real Triton and Triton's own client."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Served
from graphs import make_spec, save_graph
from onnx import TensorProto, helper
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    model_config_pb2,
)
from tritonclient.utils import InferenceServerException

from tamiz import ServerError
from tamiz_server.config_text import format_config

TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
ONNX_NAMES = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}


@pytest.fixture
def model(served: Served) -> str:
    name = served.new_name()
    (served.repository.path / name / "1").mkdir(parents=True)
    return name


@pytest.fixture
def triton(served: Served) -> InferenceServerClient:
    with InferenceServerClient(served.triton.url.removeprefix("grpc://")) as client:
        yield client


def graph_path(served: Served, model: str) -> Path:
    return served.repository.path / model / "1" / "model.onnx"


def load(served: Served, model: str, config: model_config_pb2.ModelConfig) -> None:
    config.name, config.backend = model, "onnxruntime"
    (served.repository.path / model / "config.pbtxt").write_text(format_config(config))
    served.control.load(model)


def make_config(max_batch_size: int = 0) -> model_config_pb2.ModelConfig:
    return model_config_pb2.ModelConfig(max_batch_size=max_batch_size)


def tensor(name: str, array: np.ndarray, datatype: str) -> InferInput:
    infer_input = InferInput(name, list(array.shape), datatype)
    infer_input.set_data_from_numpy(array)
    return infer_input


def write_echo(served: Served, model: str, names: list[str]) -> None:
    """A graph that returns each input ``<type>_in`` as the output ``<type>_out``."""
    onnx_types = {name: getattr(TensorProto, ONNX_NAMES.get(name, name)) for name in names}
    save_graph(
        graph_path(served, model),
        [helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in names],
        [helper.make_tensor_value_info(f"{n}_in", kind, ["batch", "size"]) for n, kind in onnx_types.items()],
        [helper.make_tensor_value_info(f"{n}_out", kind, ["batch", "size"]) for n, kind in onnx_types.items()],
        {},
    )


def echo_config(names: list[str], max_batch_size: int) -> model_config_pb2.ModelConfig:
    config = make_config(max_batch_size)
    for name in names:
        data_type = model_config_pb2.DataType.Value(f"TYPE_{name}")
        dims = [-1] if max_batch_size else [-1, -1]
        config.input.add(name=f"{name}_in", data_type=data_type, dims=dims)
        config.output.add(name=f"{name}_out", data_type=data_type, dims=dims)
    return config


@pytest.mark.parametrize("max_batch_size", [0, 4], ids=["not batched", "batched"])
def test_every_numeric_type_is_accepted_and_returned(
    max_batch_size: int, served: Served, model: str, triton: InferenceServerClient
) -> None:
    names = list(TYPES)
    write_echo(served, model, names)
    load(served, model, echo_config(names, max_batch_size))
    arrays = {name: np.arange(6).reshape(2, 3).astype(kind) for name, kind in TYPES.items()}
    reply = triton.infer(model, [tensor(f"{name}_in", array, name) for name, array in arrays.items()])
    for name, array in arrays.items():
        np.testing.assert_array_equal(reply.as_numpy(f"{name}_out"), array)
        assert reply.as_numpy(f"{name}_out").dtype == array.dtype


def test_only_the_requested_outputs_are_sent(served: Served, model: str, triton: InferenceServerClient) -> None:
    names = ["FP32", "INT64"]
    write_echo(served, model, names)
    load(served, model, echo_config(names, 4))
    inputs = [tensor(f"{name}_in", np.ones((1, 2), TYPES[name]), name) for name in names]
    reply = triton.infer(model, inputs, outputs=[InferRequestedOutput("INT64_out")])
    assert [output.name for output in reply.get_response().outputs] == ["INT64_out"]


def write_lookup(served: Served, model: str, settings: dict[str, str] | None = None) -> None:
    """A graph that fails for an index above 3, in a model whose requests Triton joins into batches."""
    save_graph(
        graph_path(served, model),
        [helper.make_node("Gather", ["table", "index"], ["value"], axis=0)],
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        {"table": np.arange(4, dtype=np.float32) * 10},
    )
    config = make_config(8)
    config.input.add(name="index", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    config.output.add(name="value", data_type=model_config_pb2.TYPE_FP32, dims=[1])
    config.dynamic_batching.max_queue_delay_microseconds = 200_000
    for key, value in (settings or {}).items():
        config.parameters[key].string_value = value
    load(served, model, config)


@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": "2"}])
def test_an_invalid_request_does_not_fail_the_other_requests_of_its_batch(
    settings: dict[str, str], served: Served, model: str, triton: InferenceServerClient
) -> None:
    write_lookup(served, model, settings)
    answers: dict[int, object] = {}
    indices = [0, 1, 99, 2, 3]

    def send(place: int, index: int) -> None:
        def receive(result: object, error: object) -> None:
            answers[place] = error or result
            if len(answers) == len(indices):
                done.set()

        triton.async_infer(model, [tensor("index", np.array([[index]]), "INT64")], receive)

    done = threading.Event()
    for place, index in enumerate(indices):
        send(place, index)
    assert done.wait(30)
    assert isinstance(answers.pop(2), InferenceServerException)
    assert {place: answer.as_numpy("value").item() for place, answer in answers.items()} == {
        0: 0,
        1: 10,
        3: 20,
        4: 30,
    }
    # The requests did share an execution of the model.
    statistics = triton.get_inference_statistics(model).model_stats[0]
    assert statistics.execution_count < len(indices)


def in_us(seconds: float) -> dict[str, int]:
    """The parameters of a request whose caller waits so many seconds more."""
    return {"tamiz_deadline_us": round((time.time() + seconds) * 1e6)}


@pytest.mark.parametrize("max_batch_size", [0, 4], ids=["not batched", "batched"])
def test_a_request_whose_deadline_has_passed_is_not_computed(
    max_batch_size: int, served: Served, model: str, triton: InferenceServerClient
) -> None:
    write_echo(served, model, ["FP32"])
    load(served, model, echo_config(["FP32"], max_batch_size))
    inputs = [tensor("FP32_in", np.ones((1, 3), np.float32), "FP32")]
    for waited_for in ({}, in_us(60), {"tamiz_deadline_us": "tomorrow"}):
        assert triton.infer(model, inputs, parameters=waited_for).as_numpy("FP32_out").tolist() == [[1, 1, 1]]
    with pytest.raises(InferenceServerException, match="the deadline of the request has passed"):
        triton.infer(model, inputs, parameters=in_us(-0.001))


def test_late_requests_do_not_fail_the_other_requests_of_their_batch(
    served: Served, model: str, triton: InferenceServerClient
) -> None:
    write_lookup(served, model)
    answers: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
    for index, seconds in enumerate([60, -1, 60, -1]):
        triton.async_infer(
            model,
            [tensor("index", np.array([[index]]), "INT64")],
            lambda result, error, index=index: answers.put((index, error or result)),
            parameters=in_us(seconds),
        )
    received = dict(answers.get(timeout=30) for _ in range(4))
    assert [received[index].as_numpy("value").item() for index in (0, 2)] == [0, 20]
    assert all(isinstance(received[index], InferenceServerException) for index in (1, 3))
    # The requests did share an execution of the model.
    assert triton.get_inference_statistics(model).model_stats[0].execution_count < 4


def test_no_further_micro_batch_is_computed_when_the_deadline_has_passed(
    served: Served, model: str, triton: InferenceServerClient
) -> None:
    from graphs import write_grey_graph

    write_grey_graph(graph_path(served, model), make_spec(["a", "b"]), busy_loops=60)
    config = make_config(16)
    config.input.add(name="image", data_type=model_config_pb2.TYPE_UINT8, dims=[28, 28, 1])
    config.output.add(name="probabilities", data_type=model_config_pb2.TYPE_FP32, dims=[2])
    config.parameters["micro_batch_size"].string_value = "1"
    load(served, model, config)

    def seconds(parameters: dict[str, int], images: int) -> float:
        began = time.monotonic()
        triton.infer(model, [tensor("image", np.zeros((images, 28, 28, 1), np.uint8), "UINT8")], parameters=parameters)
        return time.monotonic() - began

    one = min(seconds({}, 1) for _ in range(3))
    began = time.monotonic()
    with pytest.raises(InferenceServerException, match="the deadline of the request has passed"):
        seconds(in_us(one * 1.5), 16)
    assert time.monotonic() - began < 8 * one


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"execution_mode": "2"}, "execution_mode: expected 0 or 1, got 2"),
        ({"intra_op_thread_count": "many"}, "intra_op_thread_count: expected a whole number, got 'many'"),
        ({"micro_batch_size": "-1"}, "micro_batch_size: expected 0 or more, got -1"),
    ],
)
def test_an_invalid_setting_is_rejected(settings: dict[str, str], message: str, served: Served, model: str) -> None:
    with pytest.raises(ServerError, match=message):
        write_lookup(served, model, settings)


def test_the_settings_of_the_native_backend_are_accepted(
    served: Served, model: str, triton: InferenceServerClient
) -> None:
    threads = {"intra_op_thread_count": "1", "inter_op_thread_count": "1", "execution_mode": "1"}
    write_lookup(served, model, threads)
    assert triton.infer(model, [tensor("index", np.array([[2]]), "INT64")]).as_numpy("value").item() == 20


@pytest.mark.parametrize(
    ("micro_batch_size", "parts"),
    [
        (None, [8] * 8),
        ("0", [8] * 8),
        ("3", [3] * 6 + [2] * 2),
        ("8", [8] * 8),
        ("9", [8] * 8),
    ],
)
def test_a_batch_is_computed_in_parts_of_the_micro_batch_size(
    micro_batch_size: str | None, parts: list[int], served: Served, model: str, triton: InferenceServerClient
) -> None:
    """The graph returns for each row the number of rows that were computed together."""
    save_graph(
        graph_path(served, model),
        [
            helper.make_node("Shape", ["row"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["rows"]),
            helper.make_node("Expand", ["rows", "shape"], ["together"]),
            helper.make_node("Identity", ["row"], ["same"]),
        ],
        [helper.make_tensor_value_info("row", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", 1]) for name in ("together", "same")],
        {"first": np.array([0], np.int64)},
    )
    config = make_config(8)
    config.input.add(name="row", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    for name in ("together", "same"):
        config.output.add(name=name, data_type=model_config_pb2.TYPE_INT64, dims=[1])
    if micro_batch_size is not None:
        config.parameters["micro_batch_size"].string_value = micro_batch_size
    load(served, model, config)
    reply = triton.infer(model, [tensor("row", np.arange(8).reshape(8, 1), "INT64")])
    assert reply.as_numpy("together").ravel().tolist() == parts
    assert reply.as_numpy("same").ravel().tolist() == list(range(8))


@pytest.mark.parametrize(
    ("name", "data_type", "dims", "output", "message"),
    [
        ("picture", "UINT8", [28, 28, 1], "probabilities", "the model has no input 'picture'; its inputs are image"),
        ("image", "FP32", [28, 28, 1], "probabilities", "configuration has TYPE_FP32, the model has TYPE_UINT8"),
        ("image", "UINT8", [-1, -1, 1], "probabilities", r"shape \[-1, -1, 1\], the model has \[28, 28, 1\]"),
        ("image", "UINT8", [28, 28], "probabilities", r"shape \[28, 28\]"),
        ("image", "UINT8", [28, 28, 1], "logits", "the model has no output 'logits'; its outputs are probabilities"),
    ],
)
def test_a_configuration_that_the_native_backend_rejects_is_rejected(
    name: str, data_type: str, dims: list[int], output: str, message: str, served: Served, model: str
) -> None:
    from graphs import write_grey_graph

    write_grey_graph(graph_path(served, model), make_spec(["a", "b"]))
    config = make_config(4)
    config.input.add(name=name, data_type=model_config_pb2.DataType.Value(f"TYPE_{data_type}"), dims=dims)
    config.output.add(name=output, data_type=model_config_pb2.TYPE_FP32, dims=[2])
    with pytest.raises(ServerError, match=message):
        load(served, model, config)


def test_a_graph_with_a_fixed_batch_size_is_rejected_if_batching_is_configured(served: Served, model: str) -> None:
    save_graph(
        graph_path(served, model),
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        {},
    )
    config = make_config(4)
    config.input.add(name="x", data_type=model_config_pb2.TYPE_FP32, dims=[2])
    config.output.add(name="y", data_type=model_config_pb2.TYPE_FP32, dims=[2])
    with pytest.raises(ServerError, match="does not support batching"):
        load(served, model, config)


def test_several_instances_answer_correctly(served: Served, model: str, triton: InferenceServerClient) -> None:
    write_echo(served, model, ["FP32"])
    config = echo_config(["FP32"], 4)
    config.instance_group.add(count=2)
    load(served, model, config)
    for value in range(20):
        array = np.full((1, 3), value, np.float32)
        np.testing.assert_array_equal(
            triton.infer(model, [tensor("FP32_in", array, "FP32")]).as_numpy("FP32_out"), array
        )
