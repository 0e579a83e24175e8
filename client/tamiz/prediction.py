"""Prediction: what the model says of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .spec import ModelSpec


class Scored(NamedTuple):
    """A label with its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one version of a model says of one image.

    Attributes:
        label: the most probable label.
        score: its probability.
        index: its place in the model's labels.
        top: the ``top_k`` most probable labels with their probabilities, best first.
        labels: multilabel only: all labels at or above their thresholds, most probable first.
        version: of the model that answered; 0 for a training run that is not published.
        model: its name.
        position: of the image among those given to `classify_many`, from 0. Equality leaves it out.
    """

    label: str
    score: float
    index: int
    top: tuple[Scored, ...]
    labels: tuple[Scored, ...]
    version: int
    model: str
    position: int = field(default=0, compare=False)


def interpret(
    probabilities: npt.NDArray[np.float32],
    spec: ModelSpec,
    *,
    top_k: int,
    version: int,
    model: str,
    positions: Sequence[int] | None = None,
) -> list[Prediction]:
    """Turn a model's output into predictions.

    Args:
        probabilities: float32 ``[batch, classes]``.
        spec: of the version that gave them.
        top_k: how many labels each prediction's ``top`` holds, at most all.
        version: that gave them.
        model: its name.
        positions: of the images among the caller's; 0, 1, … where None.
    """
    positions = positions or range(len(probabilities))
    classes = len(spec.labels)
    k = min(top_k, classes)
    # Stable, so that of equal probabilities the first label wins, as in argmax, which is the faster of the two.
    best = probabilities.argmax(1)[:, None] if k == 1 else np.argsort(-probabilities, 1, kind="stable")[:, :k]
    scores = np.take_along_axis(probabilities, best, axis=1)
    predictions = []
    for row, (position, indices, values) in enumerate(zip(positions, best.tolist(), scores.tolist(), strict=True)):
        top = tuple(Scored(spec.labels[i], score) for i, score in zip(indices, values, strict=True))
        held = _over_thresholds(probabilities[row], spec) if spec.thresholds is not None else ()
        predictions.append(Prediction(top[0].label, top[0].score, indices[0], top, held, version, model, position))
    return predictions


def _over_thresholds(probabilities: npt.NDArray[np.float32], spec: ModelSpec) -> tuple[Scored, ...]:
    pairs = zip(spec.labels, probabilities.tolist(), spec.thresholds or (), strict=True)
    held = [Scored(label, score) for label, score, threshold in pairs if score >= threshold]
    return tuple(sorted(held, key=lambda item: -item.score))
