from __future__ import annotations

import pytest

from tamiz_bench.statistics import LatencyRecorder


def test_percentiles_are_in_milliseconds_and_throughput_is_per_second() -> None:
    recorder = LatencyRecorder()
    for milliseconds in range(1, 101):
        recorder.record(milliseconds / 1000)
    measurement = recorder.measurement(duration_s=2.0)
    assert measurement.images == 100
    assert measurement.images_per_s == 50
    assert (measurement.p50_ms, measurement.p95_ms, measurement.p99_ms) == pytest.approx((50, 95, 99), rel=0.001)


def test_every_image_of_a_batch_counts() -> None:
    recorder = LatencyRecorder()
    recorder.record(0.001, images=99)
    recorder.record(0.1)
    measurement = recorder.measurement(duration_s=1.0)
    assert measurement.images == 100
    assert measurement.p99_ms == pytest.approx(1, rel=0.001)
