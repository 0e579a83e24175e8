"""The search for the fastest accurate quantization: its decisions, with scripted measurements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from scripted_bench import ScriptedBench

from tamiz_release.precision.int8 import Quantization
from tamiz_release.precision.network import Network
from tamiz_release.precision.search import search, search_symmetric


@pytest.fixture
def network(write_network: Callable[..., Path]) -> Network:
    return Network(onnx.shape_inference.infer_shapes(onnx.load(write_network())))


def test_layers_that_are_faster_in_fp32_stay_in_it_with_the_reason(network: Network) -> None:
    first_two = network.first_layers(2)
    bench = ScriptedBench(lambda quantization: 2.0 if quantization.float_nodes == first_two else 1.4)
    lines: list[str] = []
    trial = search(network, bench, saturates=False, on_progress=lines.append)
    assert trial is not None
    assert (trial.setting, trial.speed) == (Quantization(float_nodes=first_two), 2.0)
    (part,) = trial.parts
    assert (part.name, part.nodes) == ("the first 2 layers", first_two)
    assert part.reason == "2.00 × FP32 instead of 1.40"
    assert lines[:2] == ["INT8 of all operators: 1.40 × FP32", "the first 2 layers in FP32: 2.00 × FP32"]


def test_everything_is_quantized_where_that_is_fastest(network: Network) -> None:
    bench = ScriptedBench(lambda quantization: 2.9 - len(quantization.float_nodes) / 100)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert (trial.setting, trial.parts) == (Quantization(), ())


def test_at_least_one_layer_is_quantized_even_where_fp32_is_faster(network: Network) -> None:
    bench = ScriptedBench(lambda quantization: 0.3 + len(quantization.float_nodes) / 100)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert network.layers() - trial.setting.float_nodes
    assert trial.speed < 1


def test_a_gain_within_the_error_of_the_measurement_is_not_taken(network: Network) -> None:
    bench = ScriptedBench(lambda quantization: 1.51 if quantization.float_nodes else 1.5)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert not trial.setting.float_nodes


def test_several_operators_are_taken_one_after_another_while_each_makes_the_graph_faster(network: Network) -> None:
    parts = [network.operators()["Mul"], network.pooled()]
    useful = frozenset().union(*parts)

    def speed(quantization: Quantization) -> float:
        useless = len(quantization.float_nodes - useful)
        return 1 + sum(part <= quantization.float_nodes for part in parts) / 2 - useless / 5

    trial = search(network, ScriptedBench(speed), saturates=False)
    assert trial is not None
    assert trial.speed == 2.0
    assert {part.name for part in trial.parts} == {"all Mul", "all maps of one pixel"}
    assert trial.setting.float_nodes == useful


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_ranges_of_another_method_are_taken_when_the_smallest_and_largest_values_lose_too_much(
    network: Network, method: str
) -> None:
    bench = ScriptedBench(loss=lambda quantization: 0.2 if quantization.method == method else 3.0)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert trial.setting == Quantization(method=method)


def test_scales_per_tensor_are_taken_when_scales_per_channel_lose_too_much(network: Network) -> None:
    bench = ScriptedBench(loss=lambda quantization: 9.0 if quantization.per_channel else 0.1)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert trial.setting == Quantization(per_channel=False)


def test_weights_of_7_bits_are_tried_only_where_8_bits_saturate(network: Network) -> None:
    def loss(quantization: Quantization) -> float:
        return 0.1 if quantization.reduce_range else 9.0

    trial = search(network, ScriptedBench(loss=loss), saturates=True)
    assert trial is not None
    assert trial.setting == Quantization(reduce_range=True)
    bench = ScriptedBench(loss=loss)
    search(network, bench, saturates=False)
    assert not any(quantization.reduce_range for quantization in bench.measured)


def test_weights_of_7_bits_are_dropped_again_when_they_lose_more(network: Network) -> None:
    def loss(quantization: Quantization) -> float:
        return 9.0 if quantization.reduce_range else {"minmax": 5.0, "percentile": 0.3}[quantization.method]

    trial = search(network, ScriptedBench(loss=loss), saturates=True)
    assert trial is not None
    assert trial.setting == Quantization(method="percentile")


def test_a_graph_that_loses_too_much_is_rescued_from_its_best_ranges(network: Network) -> None:
    harmful = network.blocks()[2]

    def loss(quantization: Quantization) -> float:
        return (0.0 if harmful <= quantization.float_nodes else 4.0) + {"entropy": 0.1}.get(quantization.method, 0.3)

    trial = search(network, ScriptedBench(loss=loss), saturates=False)
    assert trial is not None
    assert trial.setting == Quantization(method="entropy", float_nodes=harmful)
    assert [part.nodes for part in trial.parts] == [harmful]
    assert trial.parts[0].reason.startswith("accuracy: ")


def test_the_next_fastest_graph_is_taken_when_the_fastest_cannot_be_made_accurate(network: Network) -> None:
    first_two = network.first_layers(2)
    bench = ScriptedBench(
        lambda quantization: 2.0 if quantization.float_nodes == first_two else 1.4,
        lambda quantization: 50.0 if first_two <= quantization.float_nodes else 0.0,
    )
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert (trial.setting, trial.speed) == (Quantization(), 1.4)


def test_nothing_is_found_when_the_time_is_over_before_the_accuracy_holds(network: Network) -> None:
    assert search(network, ScriptedBench(loss=lambda quantization: 9.0, steps=3), saturates=False) is None


def test_an_accurate_graph_is_found_in_a_short_time_though_not_the_fastest(network: Network) -> None:
    bench = ScriptedBench(lambda quantization: 1 + len(quantization.float_nodes), steps=2)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert trial.setting == Quantization()


@pytest.mark.parametrize("steps", range(4, 90, 3))
def test_no_step_is_begun_that_would_not_fit_into_the_time(network: Network, steps: int) -> None:
    harmful = network.blocks()[2]
    bench = ScriptedBench(
        lambda quantization: 1 + len(quantization.float_nodes) / 100,
        lambda quantization: 0.0 if harmful <= quantization.float_nodes else 3.0,
        steps=steps,
    )
    trial = search(network, bench, saturates=False)
    assert bench.taken <= steps
    assert trial is not None or bench.budget.left_out


def test_what_does_not_fit_is_named_and_what_fits_is_tried(network: Network) -> None:
    first_two = network.first_layers(2)
    bench = ScriptedBench(lambda quantization: 2.0 if quantization.float_nodes == first_two else 1.4, steps=14)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert trial.setting.float_nodes == first_two
    assert bench.budget.left_out[0] == "the first 5 layers in FP32"
    assert "all Relu in FP32" in bench.budget.left_out
    unhurried = ScriptedBench()
    search(network, unhurried, saturates=False)
    assert unhurried.budget.left_out == []


def test_ranges_and_blocks_for_which_there_is_no_time_are_named(network: Network) -> None:
    bench = ScriptedBench(loss=lambda quantization: 9.0, steps=4)
    assert search(network, bench, saturates=False) is None
    assert any("and what would follow" in text for text in bench.budget.left_out)
    bench = ScriptedBench(loss=lambda quantization: 9.0, steps=18)
    assert search(network, bench, saturates=False) is None
    assert any(text.startswith("which of ") for text in bench.budget.left_out)


def test_a_graph_whose_outputs_are_not_finite_is_not_taken(network: Network) -> None:
    bench = ScriptedBench(loss=lambda quantization: float("inf") if quantization.method == "minmax" else 0.0)
    trial = search(network, bench, saturates=False)
    assert trial is not None
    assert trial.setting.method == "percentile"


def test_the_graph_for_tensorrt_is_symmetric_and_not_chosen_by_its_speed_on_a_cpu(network: Network) -> None:
    bench = ScriptedBench(lambda quantization: 0.5)
    trial = search_symmetric(network, bench)
    assert trial is not None
    assert trial.setting == Quantization(symmetric=True)
    assert len(bench.measured) == 1
