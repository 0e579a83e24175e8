"""Measurements of graphs of lower precision beside the FP32 graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tamiz import ExportError, ModelSpec
from tamiz.preprocessing import Pixels
from tamiz_release.precision.budget import Budget
from tamiz_release.precision.images import SearchImages
from tamiz_release.precision.int8 import Quantization, Quantizer
from tamiz_release.precision.measurement import Measurement, batch_sizes, compare_speeds, compute_probabilities
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import open_serving_session, session_config
from tamiz_train.graph import Graph

MakeBench = Callable[..., Measurement[Quantization]]


@pytest.fixture
def graph(write_network: Callable[..., Path]) -> Path:
    return write_network()


@pytest.fixture
def make_bench(graph: Path, spec: ModelSpec, search_images: SearchImages, tmp_path: Path) -> MakeBench:
    folder = tmp_path / "bench"
    folder.mkdir()
    quantizer = Quantizer(graph, search_images.calibration, folder)

    def make(targets: np.ndarray | None = None, **options: object) -> Measurement[Quantization]:
        return Measurement(
            graph,
            options.pop("write", quantizer.write),
            replace(search_images, targets=targets),
            spec,
            ServingSettings(max_batch_size=4),
            **{"limit": 0.5, "by_agreement": False, "budget": Budget(100.0), "folder": folder} | options,
        )

    return make


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"max_batch_size": 8}, (1, 8)),
        ({"max_batch_size": 8, "micro_batch_size": 2}, (1, 2)),
        ({"max_batch_size": 1}, (1,)),
        ({"max_batch_size": 8, "micro_batch_size": 1}, (1,)),
    ],
)
def test_the_batch_sizes_are_those_that_a_session_computes_when_it_serves(
    settings: dict[str, int], sizes: tuple[int, ...]
) -> None:
    assert batch_sizes(ServingSettings(**settings)) == sizes


def test_speeds_are_ratios_to_the_first_session_for_each_batch_size(graph: Path, images: Pixels) -> None:
    config = session_config(ServingSettings(threads=1))
    sessions = [open_serving_session(graph, config) for _ in range(2)]
    first, second = compare_speeds(sessions, (1, 3), images, rounds=2)
    assert first == {1: 1, 3: 1}
    assert set(second) == {1, 3}
    assert all(ratio > 0 for ratio in second.values())


def test_a_session_that_takes_a_multiple_of_the_time_has_a_fraction_of_the_speed(graph: Path, images: Pixels) -> None:
    session = open_serving_session(graph, session_config(ServingSettings(threads=1)))

    class Slow:
        def run(self, *arguments: object) -> object:
            for _ in range(50):
                result = session.run(*arguments)
            return result

    (_, ratios) = compare_speeds([session, Slow()], (1,), images, rounds=3)
    assert ratios[1] < 0.5


def test_loss_is_lost_accuracy_where_true_labels_are_known_and_disagreement_otherwise(
    make_bench: MakeBench, graph: Path, search_images: SearchImages
) -> None:
    coarse = Quantization(per_channel=False, symmetric=True)
    expected = Graph(graph).probabilities(search_images.validation).argmax(1)
    unknown = make_bench()
    accuracy = unknown.accuracy(coarse)
    assert unknown.loss(coarse) == pytest.approx(100 * (1 - accuracy.agreement))
    assert unknown.deviation(coarse) == accuracy.deviation > 0
    # With these labels, FP32 is right on every image, so that each other label is a lost image.
    known = make_bench(expected)
    assert known.accuracy(coarse).reference == 1
    assert known.loss(coarse) == pytest.approx(unknown.loss(coarse))
    # And with these it is wrong on every image, so that nothing can be lost.
    wrong = make_bench((expected + 1) % 4)
    assert wrong.loss(coarse) <= 0
    assert make_bench((expected + 1) % 4, by_agreement=True).loss(coarse) == pytest.approx(unknown.loss(coarse))


def test_each_graph_is_written_and_its_accuracy_measured_once(make_bench: MakeBench, graph: Path) -> None:
    written: list[Quantization] = []

    def write(quantization: Quantization, path: Path) -> None:
        written.append(quantization)
        path.write_bytes(graph.read_bytes())

    bench = make_bench(write=write)
    assert bench.least_loss() == float("inf")
    assert bench.loss(Quantization()) == bench.loss(Quantization()) == bench.least_loss() == 0
    assert len(bench.speeds([Quantization(), Quantization()])) == 2
    assert written == [Quantization()]


def test_old_files_are_removed_so_that_a_long_search_does_not_fill_the_disk(
    make_bench: MakeBench, graph: Path, tmp_path: Path
) -> None:
    bench = make_bench(write=lambda quantization, path: path.write_bytes(graph.read_bytes()))
    for number in range(20):
        bench.speeds([Quantization(float_nodes=frozenset({str(number)}))])
    assert len(list((tmp_path / "bench").glob("[0-9]*.onnx"))) <= 16


def test_more_graphs_than_files_that_are_kept_can_be_compared_at_once(make_bench: MakeBench, graph: Path) -> None:
    bench = make_bench(write=lambda quantization, path: path.write_bytes(graph.read_bytes()))
    settings = [Quantization(float_nodes=frozenset({str(number)})) for number in range(20)]
    assert len(bench.speeds(settings)) == 20


def test_the_budget_learns_how_long_steps_take(make_bench: MakeBench) -> None:
    bench = make_bench(budget=Budget(100.0))
    assert bench.budget.fits(losses=1)
    assert not bench.budget.fits(losses=10**9), "the FP32 graph was computed"
    assert bench.budget.fits(speeds=10**9), "no speed was measured"
    bench.speeds([Quantization()])
    assert not bench.budget.fits(speeds=10**9)


def test_a_graph_that_takes_other_images_is_an_error_with_the_reason(graph: Path, images: Pixels) -> None:
    session = open_serving_session(graph, session_config(ServingSettings()))
    with pytest.raises(ExportError, match="the graph cannot be run: "):
        compute_probabilities(session, images[:, :, :, :1])
