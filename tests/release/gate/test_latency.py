"""Latency: what is measured, not how fast this machine is."""

from __future__ import annotations

import time

import numpy as np
from graphs import make_spec

from tamiz_release.gate.latency import measure_latencies

SPEC = make_spec(["cat", "dog"], height=2, width=2)


class Sleeping:
    """Stands for a session: it takes a known time for a batch, and remembers its batches."""

    spec = SPEC

    def __init__(self, batch_s: float, image_s: float, largest_batch: int = 8) -> None:
        self.batch_s, self.image_s, self.largest_batch = batch_s, image_s, largest_batch
        self.sizes: list[int] = []

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        time.sleep(self.batch_s + self.image_s * len(images))
        return np.zeros((len(images), 2), np.float32)


def test_a_batch_is_best_where_a_batch_costs_and_one_image_where_images_cost_more_together() -> None:
    (found,) = measure_latencies([Sleeping(0.02, 0.0001)], budget_s=0)
    assert found.best_batch == 8
    assert found.one_ms > found.best_ms > 0


def test_sessions_are_measured_in_turns_with_the_same_batch_sizes() -> None:
    sessions = [Sleeping(0, 0, 6), Sleeping(0, 0, 16)]
    assert len(measure_latencies(sessions, budget_s=0)) == 2
    # One execution of each size to warm up, and at least three rounds.
    assert sessions[0].sizes == sessions[1].sizes == [1, 2, 4, 6] * 4


def test_a_model_without_batches_is_measured_with_one_image() -> None:
    (found,) = measure_latencies([Sleeping(0.001, 0, 1)], budget_s=0)
    assert (found.best_batch, found.one_ms) == (1, found.best_ms)
