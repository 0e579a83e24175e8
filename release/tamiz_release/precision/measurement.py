"""Measuring graphs of lower precision beside the FP32 graph: their speed, and what they lose.

Speed is measured through the session that serves, in processor time of one thread, so that other programs on the
machine disturb it little; the graphs take turns, and ratios are medians over the rounds.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic

import numpy as np
import onnxruntime as ort

from tamiz.errors import ExportError, one_line
from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import open_serving_session, session_config
from tamiz_train.metrics import Probabilities

from .accuracy import Accuracy, measure_accuracy
from .budget import Budget
from .images import SearchImages
from .rescue import S

SEARCH_ROUNDS = 5
"""Number of rounds in which graphs are compared during a search."""

FINAL_ROUNDS = 15
"""Number of rounds in which the result of a search is measured."""

_SECONDS = 0.02
"""Processor time of one measurement: small batches are repeated as often."""

_MOST_FILES = 16


class Measurement(Generic[S]):
    """Measures graphs of lower precision; the `Bench` of a search.

    Args:
        graph: path of the FP32 graph.
        write: writes a graph of lower precision to a path.
        images: the images on which graphs are compared.
        spec: spec of the model.
        settings: the serving settings of the model.
        limit: the largest allowed loss, in points.
        by_agreement: whether the loss is the share of images with other predicted labels, even if true labels are
            known.
        budget: time budget of the search, which learns here how long its steps take.
        folder: an empty folder for the graphs.
        accuracy_session: loads a graph to compute its probabilities; the session that serves unless given.
    """

    def __init__(
        self,
        graph: Path,
        write: Callable[[S, Path], None],
        images: SearchImages,
        spec: ModelSpec,
        settings: ServingSettings,
        *,
        limit: float,
        by_agreement: bool,
        budget: Budget,
        folder: Path,
        accuracy_session: Callable[[Path], ort.InferenceSession] | None = None,
    ) -> None:
        self.limit = limit
        self.batch_sizes = batch_sizes(settings)
        self._write = write
        self._images = images
        self._spec = spec
        self._by_agreement = by_agreement
        self.budget = budget
        self._folder = folder
        self._one_thread = session_config(settings.model_copy(update={"threads": 1}))
        served = session_config(settings.model_copy(update={"threads": 0}))
        self._open = accuracy_session or (lambda path: open_serving_session(path, served))
        self._float = open_serving_session(graph, self._one_thread)
        with budget.step("losses"):
            self._expected = compute_probabilities(open_serving_session(graph, served), images.validation)
        self._files: dict[S, Path] = {}
        self._numbers = iter(range(10**9))
        self._accuracies: dict[S, Accuracy] = {}

    def speeds(self, settings: Sequence[S]) -> list[float]:
        """Speed of each graph as a ratio to that of the FP32 graph: the geometric mean over the batch sizes."""
        return [statistics.geometric_mean(ratios.values()) for ratios in self.speeds_by_batch(settings)]

    def speeds_by_batch(self, settings: Sequence[S], rounds: int = SEARCH_ROUNDS) -> list[dict[int, float]]:
        """Speed of each graph as a ratio to that of the FP32 graph, for each batch size."""
        with self.budget.step("speeds", len(settings)):
            sessions = [self._float, *(open_serving_session(self._file(each), self._one_thread) for each in settings)]
            return compare_speeds(sessions, self.batch_sizes, self._images.validation, rounds)[1:]

    def loss(self, setting: S) -> float:
        """What a graph loses, in points of its metric or of agreement; infinite if an output is not finite."""
        accuracy = self.accuracy(setting)
        if not accuracy.finite:
            return float("inf")
        lost = None if self._by_agreement else accuracy.loss_points
        return accuracy.disagreement_points if lost is None else lost

    def deviation(self, setting: S) -> float:
        """How far the probabilities of a graph are from those of the FP32 graph; see `Accuracy.deviation`."""
        return self.accuracy(setting).deviation

    def accuracy(self, setting: S) -> Accuracy:
        """The graph beside the FP32 graph, on all images; measured once."""
        if setting not in self._accuracies:
            with self.budget.step("losses"):
                probabilities = compute_probabilities(self._open(self._file(setting)), self._images.validation)
            self._accuracies[setting] = measure_accuracy(
                probabilities, self._expected, self._spec, self._images.targets
            )
        return self._accuracies[setting]

    def least_loss(self) -> float:
        """The smallest loss of a measured graph, in points; infinite if none was measured."""
        return min(map(self.loss, list(self._accuracies)), default=float("inf"))

    def _file(self, setting: S) -> Path:
        if setting not in self._files:
            path = self._folder / f"{next(self._numbers)}.onnx"
            self._write(setting, path)
            self._files[setting] = path
            if len(self._files) > _MOST_FILES:
                self._files.pop(next(iter(self._files))).unlink()
        return self._files[setting]


def batch_sizes(settings: ServingSettings) -> tuple[int, ...]:
    """The batch sizes that a session computes when the model is served: one image, and the largest part of a batch."""
    return tuple(sorted({1, settings.micro_batch_size or settings.max_batch_size}))


def compare_speeds(
    sessions: Sequence[ort.InferenceSession],
    sizes: Sequence[int],
    images: Pixels,
    rounds: int,
    clock: Callable[[], float] = time.thread_time,
) -> list[dict[int, float]]:
    """The speed of each session as a ratio to that of the first one.

    Args:
        sessions: sessions of one thread each.
        sizes: the batch sizes to measure.
        images: uint8 ``[images, height, width, channels]``; they are repeated if a batch has more.
        rounds: number of rounds, in which the sessions take turns.
        clock: what measures a run, in seconds. Default: the processor time of this thread, which is not that of a
            session with threads of its own.

    Returns:
        for each session, the ratio by batch size: the median of the rounds' ratios.
    """
    ratios: list[dict[int, float]] = [{} for _ in sessions]
    generator = random.Random(0)
    for size in sizes:
        feed = {INPUT_NAME: np.resize(images, (size, *images.shape[1:]))}
        # The first run of a session plans its memory.
        repetitions = max(1, round(_SECONDS / max(1e-6, min(_time(session, feed, 2, clock) for session in sessions))))
        times: list[list[float]] = [[] for _ in sessions]
        order = list(range(len(sessions)))
        for _ in range(rounds):
            for index in order:
                times[index].append(_time(sessions[index], feed, repetitions, clock))
            # So that no session always follows the same other one.
            generator.shuffle(order)
        for index, own in enumerate(times):
            ratios[index][size] = statistics.median(base / each for base, each in zip(times[0], own, strict=True))
    return ratios


def compute_probabilities(session: ort.InferenceSession, images: Pixels) -> Probabilities:
    """Run images through a graph in the standard form, in batches of a few.

    Returns:
        float32 ``[images, labels]``.

    Raises:
        ExportError: the graph cannot be run.
    """
    try:
        parts = [session.run([OUTPUT_NAME], {INPUT_NAME: images[at : at + 8]})[0] for at in range(0, len(images), 8)]
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        raise ExportError(f"the graph cannot be run: {one_line(exc)[:500]}") from exc
    probabilities: Probabilities = np.concatenate(parts)
    return probabilities


def _time(
    session: ort.InferenceSession, feed: Mapping[str, Any], repetitions: int, clock: Callable[[], float]
) -> float:
    """Time of one run in seconds."""
    started = clock()
    for _ in range(repetitions):
        session.run([OUTPUT_NAME], feed)
    return (clock() - started) / repetitions
