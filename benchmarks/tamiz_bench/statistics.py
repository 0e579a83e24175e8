"""Statistics of one measurement: throughput and latency percentiles."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

_LOWEST_US = 1
_HIGHEST_US = 600_000_000
_SIGNIFICANT_DIGITS = 3


@dataclass(frozen=True)
class Measurement:
    """Throughput and latency of one measurement.

    Attributes:
        images: number of images that were classified.
        duration_s: duration of the measurement in seconds.
        p50_ms: median latency in milliseconds. The latency of an image is the time that the call with its batch took:
            decoding and resizing, sending, and the answer. Images are not read ahead.
        p95_ms: 95th percentile of the latency in milliseconds.
        p99_ms: 99th percentile of the latency in milliseconds.
    """

    images: int
    duration_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def images_per_s(self) -> float:
        """Throughput in images per second."""
        return self.images / self.duration_s


class LatencyRecorder:
    """Records the latency of each image; several threads may share one recorder.

    It keeps a histogram (HdrHistogram) from 1 µs to 10 minutes with three significant digits, so that its memory does
    not grow with the number of images.
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _SIGNIFICANT_DIGITS)
        self._images = 0
        self._lock = threading.Lock()

    def record(self, latency_s: float, images: int = 1) -> None:
        """Record one latency.

        Args:
            latency_s: latency in seconds.
            images: number of images with this latency, such as those of one batch.
        """
        latency_us = max(_LOWEST_US, round(latency_s * 1e6))
        with self._lock:
            self._histogram.record_value(latency_us, images)
            self._images += images

    def measurement(self, duration_s: float) -> Measurement:
        """The statistics of all images that were recorded.

        Args:
            duration_s: duration of the measurement in seconds.
        """
        p50, p95, p99 = (self._histogram.get_value_at_percentile(percentile) / 1000 for percentile in (50, 95, 99))
        return Measurement(self._images, duration_s, p50, p95, p99)
