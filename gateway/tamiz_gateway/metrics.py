"""Prometheus metrics of the gateway; of several workers together through prometheus-client's multiprocess mode."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus-client learns the folder that processes share; read when it is imported."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        version = ("model", "version")
        self._requests = self._counter("requests", "Requests", ("route", "method", "status"))
        self._seconds = self._histogram("request_seconds", "Time of a request", ("route",), _SECONDS)
        self._predictions = self._counter("predictions", "Predicted labels", (*version, "label"))
        self._confidence = self._histogram("confidence", "Confidence of a prediction", version, _CONFIDENCES)
        self._inference = self._histogram(
            "inference_seconds", "Time of a request to the model server", version, _SECONDS
        )
        self._in_flight = Gauge(
            "tamiz_gateway_requests_in_flight",
            "Requests that are being handled",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def record_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def record_prediction(self, model: str, version: int, label: str, confidence: float) -> None:
        """Count a prediction."""
        self._predictions.labels(model, str(version), label).inc()
        self._confidence.labels(model, str(version)).observe(confidence)

    def record_inference(self, model: str, version: int, seconds: float) -> None:
        """Count an answered request to the model server."""
        self._inference.labels(model, str(version)).observe(seconds)

    def set_in_flight(self, requests: int) -> None:
        """Set the number of requests that this worker is handling."""
        self._in_flight.set(requests)

    def exposition(self) -> bytes:
        """The metrics of all workers in Prometheus' text format."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None:
            return generate_latest(self._registry)
        for path in Path(folder).glob("gauge_live*_*.db"):
            # The gauges of a worker that was killed stay, unless somebody says that it ended.
            pid = path.stem.rpartition("_")[2]
            if not Path("/proc", pid).exists():
                with contextlib.suppress(OSError):
                    mark_process_dead(int(pid), folder)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"tamiz_gateway_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"tamiz_gateway_{name}", text, labels, registry=self._registry, buckets=buckets)
