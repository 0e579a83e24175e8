"""The choice of precision and runtime: decided in memory, and measured with real sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tamiz import ExportError, ModelSpec
from tamiz_release.precision.accuracy import Accuracy
from tamiz_release.precision.auto import (
    ONNX_RUNTIME,
    OPENVINO,
    Option,
    Runtime,
    decide,
    describe_auto_report,
    make_auto_report,
    measure,
)
from tamiz_release.precision.images import SearchImages
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import open_serving_session

FP32 = Option("fp32", ONNX_RUNTIME, speeds={1: 1.0, 8: 1.0}, accuracy=Accuracy(100, 1.0, 0.0, 0.0))
SETTINGS = ServingSettings(max_batch_size=4)


def option(precision: str = "int8", speed: float = 2.0, runtime: Runtime = ONNX_RUNTIME, **accuracy: Any) -> Option:
    figures = {"images": 1000, "agreement": 1.0, "deviation": 0.0, "largest_difference": 0.0} | accuracy
    return Option(precision, runtime, speeds={1: speed / 2, 8: speed * 2}, accuracy=Accuracy(**figures))


def lost(points: float) -> dict[str, Any]:
    return {"agreement": 0.9, "metric": "accuracy", "value": 0.9 - points / 100, "reference": 0.9}


def refusal(of: Option, max_loss_points: float = 0.5) -> str | None:
    return decide([FP32, of], max_loss_points=max_loss_points).refusals[1]


def test_the_fastest_that_keeps_the_accuracy_is_chosen_by_the_mean_of_its_batch_sizes() -> None:
    options = [FP32, option(speed=2.0), option(speed=2.5, runtime=OPENVINO), option("fp16", 1.2)]
    decision = decide(options, max_loss_points=0.5)
    assert decision.chosen is options[2]
    assert decision.refusals == (*["slower than int8 in openvino"] * 2, None, "slower than int8 in openvino")


def test_the_fastest_is_refused_if_it_is_wrong() -> None:
    options = [FP32, option(speed=2.0, **lost(0.4)), option(speed=2.5, runtime=OPENVINO, **lost(19.0))]
    decision = decide(options, max_loss_points=0.5)
    assert decision.chosen is options[1]
    assert decision.refusals[2] == "it loses 19.00 points of accuracy; at most 0.5 are allowed"


def test_fp32_is_chosen_if_nothing_is_faster() -> None:
    options = [FP32, option(speed=0.7), option("fp16", 1.01), option("fp16", 3.0, finite=False)]
    decision = decide(options, max_loss_points=0.5)
    assert decision.chosen is FP32
    assert decision.refusals == (
        None,
        "slower than FP32: 0.70 ×",
        "1.01 × FP32: as fast as FP32 within the error of the measurement",
        "its outputs are not finite",
    )


@pytest.mark.parametrize(
    ("precision", "accuracy", "allowed"),
    [
        ("int8", lost(0.4), True),
        ("int8", lost(0.6), False),
        ("int8", {"agreement": 0.981}, True),
        ("int8", {"agreement": 0.979}, False),
        ("fp16", {"agreement": 0.9991}, True),
        ("fp16", {"agreement": 0.9989}, False),
        # Labels are limited even if as many changes are for the better as for the worse.
        ("fp16", lost(0.0), False),
        ("fp32", {"agreement": 1.0}, True),
        ("fp32", {"agreement": 0.999}, False),
    ],
)
def test_each_precision_has_its_limit(precision: str, accuracy: dict[str, Any], allowed: bool) -> None:
    assert (refusal(option(precision, runtime=OPENVINO, **accuracy)) is None) == allowed


def test_a_runtime_that_is_not_wanted_is_refused_and_fp32_in_onnx_runtime_is_taken_if_nothing_else_passes() -> None:
    options = [FP32, option(speed=1.5), option(speed=2.5, runtime=OPENVINO)]
    decision = decide(options, max_loss_points=0.5, runtimes=["onnxruntime"])
    assert decision.chosen is options[1]
    assert decision.refusals[2] == "only onnxruntime may be chosen"
    decision = decide(options, max_loss_points=0.5, runtimes=["openvino"])
    assert decision.refusals == ("only openvino may be chosen", "only openvino may be chosen", None)
    decision = decide(options[:2], max_loss_points=0.5, runtimes=["openvino"])
    assert (decision.chosen, decision.refusals[0]) == (FP32, None)


def test_the_allowed_loss_of_int8_is_a_setting() -> None:
    assert refusal(option(**lost(0.6)), max_loss_points=1.0) is None


def test_what_could_not_be_measured_is_refused_for_that_reason() -> None:
    assert refusal(Option("int8", ONNX_RUNTIME, problem="no INT8 graph was found")) == "no INT8 graph was found"


def test_graphs_are_measured_beside_fp32_on_each_runtime(
    write_network: Callable[..., Path], spec: ModelSpec, search_images: SearchImages
) -> None:
    graph, twin, wrong = write_network(), write_network(name="twin.onnx"), write_network(name="wrong.onnx")
    spoil(wrong)
    other = Runtime("other", {"cpu_execution_accelerator": [{"name": "other"}]})
    opened = []

    def open_session(path: Path, config: dict[str, Any], *, gpu: int | None) -> object:
        accelerated = bool(config.pop("optimization", {}).get("execution_accelerators"))
        opened.append((path, accelerated, config["parameters"]["intra_op_thread_count"]["string_value"], gpu))
        return open_serving_session(path, config)

    options = measure(
        {"fp32": graph, "int8": wrong, "fp16": twin},
        spec,
        SETTINGS,
        search_images,
        runtimes=(ONNX_RUNTIME, other),
        rounds=1,
        open_session=open_session,
    )
    assert [(each.precision, each.runtime.name) for each in options] == [
        (precision, runtime) for runtime in ("onnxruntime", "other") for precision in ("fp32", "int8", "fp16")
    ]
    assert opened == [(path, other, "1", None) for other in (False, True) for path in (graph, wrong, twin)]
    assert options[0].speeds == {1: 1, 4: 1}
    assert all(ratio > 0 for each in options for ratio in each.speeds.values())
    agreements = [each.accuracy.agreement for each in options if each.accuracy is not None]
    assert [agreement == 1 for agreement in agreements] == [True, False, True] * 2


def spoil(path: Path) -> None:
    """Reverse the labels of the network."""
    model = onnx.load(path)
    (weights,) = (each for each in model.graph.initializer if each.name == "w6")
    weights.CopyFrom(
        onnx.numpy_helper.from_array(np.ascontiguousarray(onnx.numpy_helper.to_array(weights)[::-1]), "w6")
    )
    onnx.save(model, path)


def test_a_runtime_that_this_machine_lacks_and_a_graph_that_was_not_found_are_reported_with_the_reason(
    write_network: Callable[..., Path], spec: ModelSpec, search_images: SearchImages
) -> None:
    def without_openvino(path: Path, config: dict[str, Any], *, gpu: int | None) -> object:
        if "optimization" in config:
            problem = "cpu_execution_accelerator openvino: OpenVINO offers no CPU of this machine"
            raise ExportError(f"{path}: cannot be served on this machine: {problem}")
        return open_serving_session(path, config)

    graph = write_network()
    options = measure(
        {"fp32": graph, "int8": "no INT8 graph was found", "fp16": graph},
        spec,
        SETTINGS,
        search_images,
        rounds=1,
        open_session=without_openvino,
    )
    assert [(each.precision, each.runtime.name, each.problem) for each in options] == [
        ("fp32", "onnxruntime", None),
        ("int8", "onnxruntime", "no INT8 graph was found"),
        ("fp16", "onnxruntime", None),
        ("fp32", "openvino", "OpenVINO offers no CPU of this machine"),
    ]


def test_openvino_is_left_out_where_it_cannot_serve(
    write_network: Callable[..., Path], spec: ModelSpec, search_images: SearchImages
) -> None:
    options = measure({"fp32": write_network()}, spec, SETTINGS, search_images, rounds=1)
    (openvino,) = (each for each in options if each.runtime == OPENVINO)
    served = openvino.problem is None
    assert served or str(openvino.problem).startswith(("it is not installed; pip", "OpenVINO offers no CPU"))


def test_an_fp32_graph_that_cannot_be_served_is_an_error(
    tmp_path: Path, spec: ModelSpec, search_images: SearchImages
) -> None:
    with pytest.raises(ExportError, match=r"none.onnx: cannot be served on this machine"):
        measure({"fp32": tmp_path / "none.onnx"}, spec, SETTINGS, search_images)


def test_the_report_is_a_table_with_the_reason_of_each_refusal(write_network: Callable[..., Path]) -> None:
    path = write_network()
    options = [
        Option("fp32", ONNX_RUNTIME, path, FP32.speeds, FP32.accuracy),
        Option("int8", OPENVINO, path, {1: 1.5, 8: 2.0}, Accuracy(100, 0.99, 0.0, 0.0)),
        Option("fp16", ONNX_RUNTIME, problem="no FP16 graph was found"),
    ]
    report = make_auto_report(options, decide(options, max_loss_points=0.5))
    assert report == json.loads(json.dumps(report))
    assert (report["precision"], report["runtime"]) == ("int8", "openvino")
    assert report["accelerators"] == {"cpu_execution_accelerator": [{"name": "openvino"}]}
    head, fp32, int8, fp16, chosen = describe_auto_report(report)
    assert re.split(r"\s{2,}", head.strip()) == ["runtime", "MiB", "× FP32, batch 1", "× FP32, batch 8", "labels agree"]
    assert re.split(r"\s{2,}", fp32) == [
        *("fp32", "onnxruntime", "0.0", "1.00", "1.00", "100.00%"),
        "refused: slower than int8 in openvino",
    ]
    assert re.split(r"\s{2,}", int8) == ["int8", "openvino", "0.0", "1.50", "2.00", "99.00%", "chosen"]
    assert re.split(r"\s{2,}", fp16) == ["fp16", "onnxruntime", *"----", "refused: no FP16 graph was found"]
    assert chosen == "fastest on this machine: int8 in openvino"
