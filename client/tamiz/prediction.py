"""Prediction: the labels and probabilities that a model gives to one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .spec import ModelSpec


class Scored(NamedTuple):
    """A label with its probability.

    Attributes:
        label: the label.
        score: its probability, from 0 to 1.
    """

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which model a prediction comes from, from where, and when; `tamiz replay` computes such a prediction again.

    Attributes:
        model: name of the model.
        version: version of the model.
        onnx_sha256: SHA-256 of the version's graph, as its publication recorded it; None for a version that was
            published before this was recorded.
        spec_sha256: SHA-256 of the version's spec, by which the image was prepared and the labels are named.
        url: URL of the server that answered.
        time: when the answer arrived, in UTC by the clock of the client.
    """

    model: str
    version: int
    onnx_sha256: str | None
    spec_sha256: str | None
    url: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels and probabilities that one version of a model gives to one image.

    Attributes:
        label: the most probable label.
        score: probability of ``label``, from 0 to 1.
        index: index of ``label`` among the model's labels.
        top: the ``top_k`` most probable labels with their probabilities, best first.
        labels: all labels at or above their thresholds, most probable first; empty for a multiclass model.
        version: version of the model that answered; 0 for a training run that is not published.
        model: name of the model.
        position: index of the image among those given to `classify_many`, from 0. Comparison ignores it.
        provenance: the hashes of that version, the server and the time; None unless the client was asked for it.
            Comparison ignores it.
    """

    label: str
    score: float
    index: int
    top: tuple[Scored, ...]
    labels: tuple[Scored, ...]
    version: int
    model: str
    position: int = field(default=0, compare=False)
    provenance: Provenance | None = field(default=None, compare=False)


def interpret(
    probabilities: npt.NDArray[np.float32],
    spec: ModelSpec,
    *,
    top_k: int,
    version: int,
    model: str,
    positions: Sequence[int] | None = None,
    provenance: Provenance | None = None,
) -> list[Prediction]:
    """Turn a model's output into predictions.

    Args:
        probabilities: float32 ``[batch, classes]``.
        spec: spec of the version that computed the probabilities.
        top_k: number of labels in ``top`` of each prediction; limited to the number of labels of the model.
        version: version that computed the probabilities.
        model: name of the model.
        positions: index of each image among those of the caller; None for 0, 1, ….
        provenance: where the probabilities come from.

    Returns:
        one prediction for each row of ``probabilities``.
    """
    positions = positions or range(len(probabilities))
    classes = len(spec.labels)
    k = min(top_k, classes)
    # The sort is stable, so that the first of equally probable labels wins, as it does in the faster argmax.
    best = probabilities.argmax(1)[:, None] if k == 1 else np.argsort(-probabilities, 1, kind="stable")[:, :k]
    scores = probabilities[np.arange(len(best))[:, None], best]
    predictions = []
    for row, (position, indices, values) in enumerate(zip(positions, best.tolist(), scores.tolist(), strict=True)):
        top = tuple(Scored(spec.labels[i], score) for i, score in zip(indices, values, strict=True))
        labels = _over_thresholds(probabilities[row], spec) if spec.thresholds is not None else ()
        best_of_row = (top[0].label, top[0].score, indices[0], top, labels)
        predictions.append(Prediction(*best_of_row, version, model, position, provenance))
    return predictions


def _over_thresholds(probabilities: npt.NDArray[np.float32], spec: ModelSpec) -> tuple[Scored, ...]:
    pairs = zip(spec.labels, probabilities.tolist(), spec.thresholds or (), strict=True)
    found = [Scored(label, score) for label, score, threshold in pairs if score >= threshold]
    return tuple(sorted(found, key=lambda item: -item.score))
