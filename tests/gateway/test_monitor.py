from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamiz import OutputError
from tamiz_gateway.monitor import MAX_VERSIONS, Monitor


class Clock:
    def __init__(self) -> None:
        self.now = 100_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def versions(window: dict[str, Any]) -> list[tuple[str, int, int]]:
    return [(each["model"], each["version"], each["predictions"]) for each in window["versions"]]


def test_figures_are_means_over_the_predictions_of_each_version(clock: Clock) -> None:
    monitor = Monitor(clock=clock)
    monitor.record_inference("pets", 1, 2, 0.1)
    for confidence in (0.9, 0.7):
        monitor.record_prediction("pets", 1, confidence)
    monitor.record_inference("pets", 2, 1, 0.4)
    monitor.record_prediction("pets", 2, 0.5)
    clock.now += 10
    window = monitor.snapshot()["1m"]
    assert window["predictions"] == 3
    assert window["average_inference_time_s"] == pytest.approx(0.2)
    assert window["average_confidence"] == pytest.approx(0.7)
    assert window["low_confidence_share"] == pytest.approx(2 / 3)
    assert window["throughput"] == pytest.approx(0.3)
    assert versions(window) == [("pets", 1, 2), ("pets", 2, 1)]


def test_a_window_forgets_what_is_older(clock: Clock) -> None:
    monitor = Monitor(clock=clock)
    monitor.record_prediction("pets", 1, 0.9)
    clock.now += 59
    assert monitor.snapshot()["1m"]["predictions"] == 1
    clock.now += 2
    monitor.record_prediction("pets", 1, 0.9)
    snapshot = monitor.snapshot()
    assert [snapshot[name]["predictions"] for name in ("1m", "1h", "start")] == [1, 2, 2]
    clock.now += 3_700
    snapshot = monitor.snapshot()
    assert [snapshot[name]["predictions"] for name in ("1m", "1h", "start")] == [0, 0, 2]
    assert snapshot["1m"]["average_confidence"] is None
    assert snapshot["uptime_s"] == 3_761


def test_a_place_in_the_ring_is_cleared_before_it_counts_again(clock: Clock) -> None:
    monitor = Monitor(clock=clock)
    for _ in range(10):
        monitor.record_prediction("pets", 1, 0.9)
        clock.now += 60
    monitor.record_prediction("pets", 1, 0.9)
    assert monitor.snapshot()["1m"]["predictions"] == 1


def test_workers_share_the_figures(tmp_path: Path, clock: Clock) -> None:
    first, second = Monitor(tmp_path, clock=clock), Monitor(tmp_path, clock=clock)
    first.record_prediction("pets", 1, 1.0)
    second.record_prediction("pets", 1, 0.5)
    second.record_prediction("birds", 7, 0.5)
    for monitor in (first, second):
        window = monitor.snapshot()["start"]
        assert versions(window) == [("birds", 7, 1), ("pets", 1, 2)]
    first.close()
    second.close()


def test_a_worker_goes_on_counting_in_the_file_of_the_one_that_it_replaces(tmp_path: Path, clock: Clock) -> None:
    first = Monitor(tmp_path, clock=clock)
    first.record_prediction("pets", 1, 1.0)
    first.close()
    second = Monitor(tmp_path, clock=clock)
    second.record_prediction("pets", 1, 1.0)
    assert second.snapshot()["start"]["predictions"] == 2
    assert len(list(tmp_path.iterdir())) == 1
    second.close()


def test_memory_is_bounded_whatever_is_served(clock: Clock) -> None:
    monitor = Monitor(clock=clock)
    for version in range(1, MAX_VERSIONS + 3):
        clock.now += 1
        monitor.record_prediction("pets", version, 0.9)
    kept = [each["version"] for each in monitor.snapshot()["start"]["versions"]]
    assert kept == list(range(3, MAX_VERSIONS + 3))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        Monitor(tmp_path / "missing")
