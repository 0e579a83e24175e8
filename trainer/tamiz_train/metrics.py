"""Metrics: from probabilities and targets to figures, the same for a trained network and a served one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    hamming_loss,
    multilabel_confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
)

from tamiz.spec import ModelSpec

Probabilities = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]
BINS = 15
"""Of the calibration error, as in Guo et al., "On Calibration of Modern Neural Networks", 2017."""
MARGIN = 2e-4
"""Of a tuned threshold to the probabilities seen, twice over: a half is what the export's check allows."""


class ClassFigures(NamedTuple):
    """How well one label is told; ``support`` is the number of images that have it."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Bin(NamedTuple):
    """Predictions of like confidence: how many, their mean confidence, and the share that is right."""

    count: int
    confidence: float
    accuracy: float


def decide(probabilities: Probabilities, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """What the probabilities say: the index of the best label ``[images]``; multilabel: 0 or 1 ``[images, labels]``."""
    if spec.thresholds is None:
        return probabilities.argmax(1)
    return (probabilities >= np.array(spec.thresholds, np.float64)).astype(np.int64)


def measure(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> dict[str, float]:
    """The figures of a task, its most telling one first.

    Args:
        probabilities: float32 ``[images, labels]``.
        targets: int64 ``[images]``; multilabel: 0 or 1 ``[images, labels]``.
        spec: of the model.

    Returns:
        multiclass: ``accuracy`` (share of images), ``precision``, ``recall`` and ``f1`` (means over the labels),
        ``loss`` (mean cross-entropy), ``ece`` (expected calibration error). Multilabel: ``f1_macro``, ``f1_micro``,
        ``precision`` and ``recall`` (means over the labels), ``map`` (mean average precision) and ``auc`` (over the
        labels that some images have and some have not), ``subset_accuracy`` (share of images with all labels right),
        ``hamming_loss`` (share of labels wrong), ``loss`` (mean binary cross-entropy), ``ece``. Nothing without images.
    """
    if not len(probabilities):
        return {}
    predicted = decide(probabilities, spec)
    labels = range(len(spec.labels))
    certain = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    precision, recall, f1, _ = precision_recall_fscore_support(
        targets, predicted, labels=labels, average="macro", zero_division=0
    )
    ece = sum(bin.count * abs(bin.accuracy - bin.confidence) for bin in calibration(probabilities, targets, spec))
    if spec.task == "multiclass":
        picked = certain[np.arange(len(targets)), targets.astype(np.int64)]
        return {
            "accuracy": float((predicted == targets).mean()),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "loss": float(-np.log(picked).mean()),
            "ece": float(ece / len(targets)),
        }
    micro = precision_recall_fscore_support(targets, predicted, average="micro", zero_division=0)[2]
    both = [label for label in labels if 0 < targets[:, label].sum() < len(targets)]
    return {
        "f1_macro": float(f1),
        "f1_micro": float(micro),
        "precision": float(precision),
        "recall": float(recall),
        "map": float(average_precision_score(targets[:, both], probabilities[:, both])) if both else float("nan"),
        "auc": float(roc_auc_score(targets[:, both], probabilities[:, both])) if both else float("nan"),
        "subset_accuracy": float((predicted == targets).all(1).mean()),
        "hamming_loss": float(hamming_loss(targets, predicted)),
        "loss": float(-np.where(targets > 0, np.log(certain), np.log1p(-certain)).mean()),
        "ece": float(ece / targets.size),
    }


def measure_classes(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> list[ClassFigures]:
    """Precision, recall, F1 and support of each label, in the order of the labels."""
    columns = precision_recall_fscore_support(
        targets, decide(probabilities, spec), labels=range(len(spec.labels)), average=None, zero_division=0
    )
    rows = zip(spec.labels, *columns, strict=True)
    return [ClassFigures(label, float(p), float(r), float(f1), int(support)) for label, p, r, f1, support in rows]


def count_confusions(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """Images by true label (rows) and told label (columns); multilabel: ``[labels, 2, 2]``, one such table a label."""
    predicted = decide(probabilities, spec)
    if spec.task == "multilabel":
        return multilabel_confusion_matrix(targets, predicted, labels=range(len(spec.labels)))
    return confusion_matrix(targets, predicted, labels=range(len(spec.labels)))


def calibration(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> list[Bin]:
    """Predictions in bins of equal width by confidence, from the least to the most confident; empty bins left out.

    The confidence is the best label's probability; multilabel: each label's, which is right where the label holds.
    """
    if spec.task == "multiclass":
        confidence, right = probabilities.max(1), decide(probabilities, spec) == targets
    else:
        confidence, right = probabilities.ravel(), targets.ravel() > 0
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    bins = []
    for place in range(BINS):
        chosen = places == place
        if count := int(chosen.sum()):
            bins.append(Bin(count, float(confidence[chosen].mean()), float(right[chosen].mean())))
    return bins


def tune_thresholds(probabilities: Probabilities, targets: Targets) -> tuple[float, ...]:
    """For each label the threshold of the best F1; 0.5 where no image has the label.

    Each lies half-way between two probabilities that were seen and are at least `MARGIN` apart, so that the last bits
    of a probability, in which PyTorch and ONNX Runtime may differ, do not decide.
    """
    thresholds = []
    for label in range(probabilities.shape[1]):
        if not targets[:, label].any():
            thresholds.append(0.5)
            continue
        precision, recall, seen = precision_recall_curve(targets[:, label], probabilities[:, label])
        f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
        below = np.concatenate([[0.0], seen[:-1]])
        apart = seen - below >= MARGIN
        best = int(np.where(apart, f1, -1).argmax()) if apart.any() else int(f1.argmax())
        thresholds.append(float(seen[best] + below[best]) / 2)
    return tuple(thresholds)
