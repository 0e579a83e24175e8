"""Metrics: from probabilities and targets to figures, the same for a trained network and a served model.

Throughout, ``probabilities`` is float32 ``[images, labels]``, and ``targets`` is int64 ``[images]`` (multiclass: the
index of the true label) or float32 ``[images, labels]`` of 0 and 1 (multilabel).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import sklearn.metrics as sk

from tamiz.spec import ModelSpec

Probabilities = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]

BINS = 15
"""Bins of the expected calibration error, as in Guo et al., "On Calibration of Modern Neural Networks", 2017."""

THRESHOLD_GAP = 2e-4
"""Smallest gap between two observed probabilities for a tuned threshold to lie between them.

The threshold then has a distance of 1e-4 from both, which is the difference that the check of an exported graph allows.
"""

MEANINGS: Mapping[str, str] = {
    "accuracy": "fraction of the images whose predicted label is right",
    "precision": "fraction of right predictions among the images for which a label is predicted, mean over the labels",
    "recall": "fraction of the images with a label for which it is predicted, mean over the labels",
    "f1": "harmonic mean of precision and recall, mean over the labels",
    "f1_macro": "harmonic mean of precision and recall, mean over the labels",
    "f1_micro": "harmonic mean of precision and recall over all predictions, whatever their label",
    "map": "mean average precision: how well the probability of a label ranks the images, whatever the threshold",
    "auc": "area under the ROC curve, mean over the labels: 0.5 is chance, 1 is perfect",
    "subset_accuracy": "fraction of the images for which all labels are right",
    "hamming_loss": "fraction of wrong decisions about a label of an image",
    "loss": "mean cross-entropy: lower is better, and confident mistakes cost most",
    "ece": "expected calibration error: how far the confidence of predictions is from the fraction that is right",
}
"""What each metric means, in a few words."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one label.

    Attributes:
        label: the label.
        precision: fraction of the images with this predicted label that have it.
        recall: fraction of the images that have this label for which it is predicted.
        f1: harmonic mean of precision and recall.
        support: number of images that have this label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions of similar confidence.

    Attributes:
        count: number of predictions.
        confidence: their mean confidence.
        accuracy: fraction of them that is right.
    """

    count: int
    confidence: float
    accuracy: float


def predict_labels(probabilities: Probabilities, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """The predicted labels of each image.

    Returns:
        multiclass: index of the most probable label ``[images]``; multilabel: 1 where the probability reaches the
        label's threshold, otherwise 0 ``[images, labels]``.
    """
    if spec.thresholds is None:
        return cast("npt.NDArray[np.int64]", probabilities.argmax(1))
    return (probabilities >= np.array(spec.thresholds, np.float64)).astype(np.int64)


def compute_metrics(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> dict[str, float]:
    """The metrics of a task, the main one first.

    Args:
        probabilities: float32 ``[images, labels]``.
        targets: int64 ``[images]``; multilabel: 0 or 1 ``[images, labels]``.
        spec: spec of the model.

    Returns:
        an empty dictionary when there are no images. Otherwise, for multiclass: ``accuracy`` (fraction of images),
        ``precision``, ``recall`` and ``f1`` (means over the labels), ``loss`` (mean cross-entropy), ``ece`` (expected
        calibration error). For multilabel: ``f1_macro``, ``f1_micro``, ``precision`` and ``recall`` (means over the
        labels), ``map`` (mean average precision) and ``auc`` (area under the ROC curve), both means over the labels
        that some images have and others do not, ``subset_accuracy`` (fraction of images with all labels right),
        ``hamming_loss`` (fraction of labels that are wrong), ``loss`` (mean binary cross-entropy), ``ece``.
    """
    if not len(probabilities):
        return {}
    predicted = predict_labels(probabilities, spec)
    labels = range(len(spec.labels))
    clipped = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        targets, predicted, labels=labels, average="macro", zero_division=0
    )
    bins = compute_calibration(probabilities, targets, spec)
    ece = sum(bin.count * abs(bin.accuracy - bin.confidence) for bin in bins)
    if spec.task == "multiclass":
        picked = clipped[np.arange(len(targets)), targets.astype(np.int64)]
        return {
            "accuracy": float((predicted == targets).mean()),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "loss": float(-np.log(picked).mean()),
            "ece": float(ece / len(targets)),
        }
    f1_micro = sk.precision_recall_fscore_support(targets, predicted, average="micro", zero_division=0)[2]
    # Average precision and AUC need images with the label and images without it.
    both = [label for label in labels if 0 < targets[:, label].sum() < len(targets)]
    return {
        "f1_macro": float(f1),
        "f1_micro": float(f1_micro),
        "precision": float(precision),
        "recall": float(recall),
        "map": float(sk.average_precision_score(targets[:, both], probabilities[:, both])) if both else float("nan"),
        "auc": float(sk.roc_auc_score(targets[:, both], probabilities[:, both])) if both else float("nan"),
        "subset_accuracy": float((predicted == targets).all(1).mean()),
        "hamming_loss": float(sk.hamming_loss(targets, predicted)),
        "loss": float(-np.where(targets > 0, np.log(clipped), np.log1p(-clipped)).mean()),
        "ece": float(ece / targets.size),
    }


def compute_class_metrics(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> list[ClassMetrics]:
    """Precision, recall, F1 and support of each label, in the order of the labels."""
    columns = sk.precision_recall_fscore_support(
        targets, predict_labels(probabilities, spec), labels=range(len(spec.labels)), average=None, zero_division=0
    )
    rows = zip(spec.labels, *columns, strict=True)
    return [ClassMetrics(label, float(p), float(r), float(f1), int(support)) for label, p, r, f1, support in rows]


def confusion_matrix(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> npt.NDArray[np.int64]:
    """Number of images by true label (rows) and predicted label (columns).

    Returns:
        multiclass: int64 ``[labels, labels]``. Multilabel: int64 ``[labels, 2, 2]``, for each label
        ``[[true negatives, false positives], [false negatives, true positives]]``.
    """
    compute = sk.multilabel_confusion_matrix if spec.task == "multilabel" else sk.confusion_matrix
    matrix = compute(targets, predict_labels(probabilities, spec), labels=range(len(spec.labels)))
    return cast("npt.NDArray[np.int64]", matrix)


def compute_calibration(probabilities: Probabilities, targets: Targets, spec: ModelSpec) -> list[CalibrationBin]:
    """Group predictions by confidence into `BINS` bins of equal width, which shows how well the model is calibrated.

    A multiclass prediction is the most probable label of an image; its confidence is that probability. A multilabel
    prediction is one label of one image; its confidence is the label's probability, and it is right where the image
    has the label.

    Returns:
        the bins that are not empty, the least confident first.
    """
    if spec.task == "multiclass":
        confidence, right = probabilities.max(1), predict_labels(probabilities, spec) == targets
    else:
        confidence, right = probabilities.ravel(), targets.ravel() > 0
    places = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    bins = []
    for place in range(BINS):
        chosen = places == place
        if count := int(chosen.sum()):
            bins.append(CalibrationBin(count, float(confidence[chosen].mean()), float(right[chosen].mean())))
    return bins


def tune_thresholds(probabilities: Probabilities, targets: Targets) -> tuple[float, ...]:
    """For each label of a multilabel task, the threshold with the highest F1; 0.5 for a label that no image has.

    A threshold lies halfway between two observed probabilities that are at least `THRESHOLD_GAP` apart, wherever
    there are two such probabilities. So a prediction does not depend on the last bits of a probability, in which
    PyTorch and ONNX Runtime may differ.

    Args:
        probabilities: float32 ``[images, labels]``.
        targets: 0 or 1 ``[images, labels]``.
    """
    thresholds = []
    for label in range(probabilities.shape[1]):
        if not targets[:, label].any():
            thresholds.append(0.5)
            continue
        precision, recall, observed = sk.precision_recall_curve(targets[:, label], probabilities[:, label])
        f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1]
        below = np.concatenate([[0.0], observed[:-1]])
        apart = observed - below >= THRESHOLD_GAP
        best = int(np.where(apart, f1, -1).argmax()) if apart.any() else int(f1.argmax())
        thresholds.append(float(observed[best] + below[best]) / 2)
    return tuple(thresholds)
