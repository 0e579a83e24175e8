"""The rescue: which parts are given back to FP32, with scripted measurements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from scripted_bench import ScriptedBench

from tamiz_release.precision.int8 import Quantization
from tamiz_release.precision.network import Network
from tamiz_release.precision.rescue import Trial, rescue


@pytest.fixture
def network(write_network: Callable[..., Path]) -> Network:
    return Network(onnx.shape_inference.infer_shapes(onnx.load(write_network())))


def losing(network: Network, points: dict[int, float]) -> Callable[[Quantization], float]:
    """A loss that is the sum of the points of the blocks that are quantized."""
    blocks = network.blocks()
    return lambda setting: sum(lost for index, lost in points.items() if not blocks[index] <= setting.float_nodes)


def test_the_most_harmful_parts_are_given_back_first_until_the_accuracy_holds(network: Network) -> None:
    bench = ScriptedBench(loss=losing(network, {1: 0.4, 2: 3.0, 3: 1.0}))
    lines: list[str] = []
    trial = rescue(network, bench, Trial(Quantization(), 2.0), on_progress=lines.append)
    assert trial is not None
    assert [part.name for part in trial.parts] == ["block 3", "block 4"]
    assert trial.parts[0].reason == "accuracy: it adds 0.0300 to the deviation"
    assert trial.setting.float_nodes == network.blocks()[2] | network.blocks()[3]
    assert trial.speed == 1.5
    assert lines == [
        "blocks given back to FP32, 1: loses 1.40 points",
        "blocks given back to FP32, 2: loses 0.40 points",
    ]


def test_parts_that_stay_in_fp32_for_another_reason_are_kept_and_not_tried_again(network: Network) -> None:
    blocks = network.blocks()
    bench = ScriptedBench(loss=losing(network, {2: 3.0}))
    trial = rescue(network, bench, Trial(Quantization(float_nodes=blocks[0] | blocks[1]), 2.0))
    assert trial is not None
    assert trial.setting.float_nodes == blocks[0] | blocks[1] | blocks[2]
    assert all(setting.float_nodes > blocks[0] | blocks[1] for setting in bench.measured)


def test_a_graph_in_which_no_layer_is_of_lower_precision_is_no_result(network: Network) -> None:
    bench = ScriptedBench(loss=lambda setting: 0.0 if network.layers() <= setting.float_nodes else 9.0)
    assert rescue(network, bench, Trial(Quantization(), 2.0)) is None


def test_nothing_is_rescued_when_the_time_is_over(network: Network) -> None:
    bench = ScriptedBench(loss=losing(network, {2: 3.0}), steps=1)
    bench.taken = 1
    assert rescue(network, bench, Trial(Quantization(), 2.0)) is None
