"""What a graph of lower precision loses: how its probabilities differ from those of the FP32 graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tamiz.spec import ModelSpec
from tamiz_train.metrics import Probabilities, Targets, compute_metrics, predict_labels

from ..gate.agreement import main_metric


@dataclass(frozen=True)
class Accuracy:
    """A graph beside the FP32 graph, on the same images.

    Attributes:
        images: number of images.
        agreement: fraction of the images with the same predicted label; multilabel: with the same predicted labels.
        deviation: mean over the images of half the sum of the differences of the probabilities (the total variation
            distance); multilabel: mean difference of two probabilities.
        largest_difference: largest difference of two probabilities.
        finite: whether all outputs are finite; if not, the graph agrees on no image and differs by 1.
        metric: ``accuracy``, or ``map`` of a multilabel model; None without true labels that give it a value.
        value: this metric of the graph.
        reference: this metric of the FP32 graph.
    """

    images: int
    agreement: float
    deviation: float
    largest_difference: float
    finite: bool = True
    metric: str | None = None
    value: float | None = None
    reference: float | None = None

    @property
    def loss_points(self) -> float | None:
        """How much of the metric is lost, in points; None without true labels."""
        return None if self.value is None or self.reference is None else 100 * (self.reference - self.value)

    @property
    def disagreement_points(self) -> float:
        """The share of images with other predicted labels, in points."""
        return 100 * (1 - self.agreement)

    def to_dict(self) -> dict[str, Any]:
        """The figures for a report."""
        return vars(self) | {"loss_points": self.loss_points}

    def __str__(self) -> str:
        if not self.finite:
            return "its outputs are not finite"
        agreement = f"labels agree on {self.agreement:.2%} of {self.images:,} images"
        if self.metric is None:
            return agreement
        return f"{self.metric} {self.value:.4f} (FP32: {self.reference:.4f}), {agreement}"


def measure_accuracy(
    probabilities: Probabilities, reference: Probabilities, spec: ModelSpec, targets: Targets | None
) -> Accuracy:
    """Compare the probabilities of a graph with those of the FP32 graph.

    Args:
        probabilities: float32 ``[images, labels]``; at least one image.
        reference: the probabilities of the FP32 graph, float32 ``[images, labels]``.
        spec: spec of the model.
        targets: the true labels; multiclass: int64 ``[images]``, multilabel: float32 ``[images, labels]``; None if they
            are unknown.
    """
    images, metric = len(reference), main_metric(spec, targets)
    expected = None if targets is None or metric is None else compute_metrics(reference, targets, spec)[metric]
    if not np.isfinite(probabilities).all():
        value = None if metric is None else 0.0
        return Accuracy(images, 0.0, 1.0, 1.0, False, metric, value, expected)
    difference = np.abs(probabilities.astype(np.float64) - reference)
    deviation = difference.sum(1) / 2 if spec.task == "multiclass" else difference.mean(1)
    same = predict_labels(probabilities, spec) == predict_labels(reference, spec)
    return Accuracy(
        images=images,
        agreement=float(same.reshape(images, -1).all(1).mean()),
        deviation=float(deviation.mean()),
        largest_difference=float(difference.max()),
        metric=metric,
        value=None if targets is None or metric is None else compute_metrics(probabilities, targets, spec)[metric],
        reference=expected,
    )
