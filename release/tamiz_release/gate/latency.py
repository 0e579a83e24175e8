"""Latency: how long sessions compute one image, and a batch, measured in turns so that neighbours disturb all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .served_graph import ServedGraph

BUDGET_S = 4.0
"""How long the measurement takes, at least three rounds."""

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 30


@dataclass(frozen=True)
class Latency:
    """How fast a session computes.

    Attributes:
        one_ms: median time of one image alone, in milliseconds.
        best_batch: the batch size with the most images per second.
        best_ms: median time per image of such a batch, in milliseconds.
    """

    one_ms: float
    best_batch: int
    best_ms: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as gate.json has them."""
        return asdict(self)


def measure_latencies(graphs: Sequence[ServedGraph], *, budget_s: float = BUDGET_S) -> list[Latency]:
    """Measure sessions in interleaved rounds: each round measures every session at every batch size.

    Args:
        graphs: the sessions; batch sizes are powers of two up to the smallest of their largest batch sizes.
        budget_s: seconds after which no further round begins.

    Returns:
        the figures of each session.
    """
    largest = min(graph.largest_batch for graph in graphs)
    sizes = sorted({1 << power for power in range(largest.bit_length())} | {largest})
    batches = [
        np.random.default_rng(0).integers(0, 256, (largest, *graph.spec.preprocessing.shape), dtype=np.uint8)
        for graph in graphs
    ]
    for graph, images in zip(graphs, batches, strict=True):
        # The first execution of each size allocates memory.
        for size in sizes:
            graph.probabilities(images[:size])
    times: dict[tuple[int, int], list[float]] = {}
    end = time.monotonic() + budget_s
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.monotonic() > end:
            break
        for size in sizes:
            for place, (graph, images) in enumerate(zip(graphs, batches, strict=True)):
                began = time.perf_counter()
                graph.probabilities(images[:size])
                times.setdefault((place, size), []).append((time.perf_counter() - began) * 1000 / size)
    medians = {key: statistics.median(each) for key, each in times.items()}
    return [_summarise({size: medians[place, size] for size in sizes}) for place in range(len(graphs))]


def _summarise(medians: dict[int, float]) -> Latency:
    best = min(medians, key=medians.__getitem__)
    return Latency(medians[1], best, medians[best])
