"""Agreement: how far a candidate is from its reference on the same images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamiz.errors import list_names
from tamiz.spec import ModelSpec
from tamiz_train.evaluation import Evaluation
from tamiz_train.metrics import Probabilities, Targets, compute_metrics, predict_labels

TIE = 1e-4
"""Probabilities that differ by less are a tie: sums of float32 in another order differ by less, and decide it."""

MAX_DIFFERENT = 20
"""The number of images with the largest differences that a report shows."""


@dataclass(frozen=True)
class DifferentImage:
    """An image on which a candidate is far from its reference.

    Attributes:
        image: name of the image.
        difference: the largest difference of two probabilities of a label.
        candidate: the labels that the candidate predicts, joined by ``|``.
        reference: the labels that the reference predicts, in the same form.
    """

    image: str
    difference: float
    candidate: str
    reference: str


@dataclass(frozen=True)
class Agreement:
    """A candidate beside its reference.

    Attributes:
        images: number of images that both could read.
        agreeing: number of them for which the candidate predicts the labels of the reference. A tie, see `TIE`, counts
            as the same.
        largest_difference: the largest difference of two probabilities.
        different: the images with the largest differences, at most `MAX_DIFFERENT`.
        metric: name of the main metric: ``accuracy``, or ``map`` (mean average precision) of a multilabel model; None
            if the labels of the images are unknown, or give it no value.
        values: that metric of the candidate and of the reference.
        calibration_errors: the expected calibration errors of the candidate and of the reference.
    """

    images: int
    agreeing: int
    largest_difference: float
    different: tuple[DifferentImage, ...]
    metric: str | None = None
    values: tuple[float, float] = (float("nan"), float("nan"))
    calibration_errors: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def label_agreement(self) -> float:
        """Fraction of the images for which the candidate predicts the labels of the reference."""
        return self.agreeing / self.images

    @property
    def drop(self) -> float:
        """How far the metric of the candidate is below that of the reference."""
        return self.values[1] - self.values[0]

    def to_dict(self) -> dict[str, Any]:
        """The figures as gate.json has them."""
        measured = {
            name: {"metric": self.metric, "value": value, "calibration_error": error}
            for name, value, error in zip(("candidate", "reference"), self.values, self.calibration_errors, strict=True)
        }
        return {
            "images": self.images,
            "agreeing": self.agreeing,
            "label_agreement": self.label_agreement,
            "largest_difference": self.largest_difference,
            **(measured if self.metric else {}),
            "different": [asdict(image) for image in self.different],
        }


def measure_agreement(candidate: Evaluation, reference: Evaluation, *, labelled: bool) -> Agreement | None:
    """Compare the probabilities of a candidate with those of its reference.

    Args:
        candidate: the candidate's evaluation of the images.
        reference: the reference's evaluation of the same images; its model has the same labels, in any order.
        labelled: whether the targets are the true labels.

    Returns:
        the figures; None if no image could be read by both.
    """
    indices = np.intersect1d(candidate.indices, reference.indices)
    if not len(indices):
        return None
    labels = reference.spec.labels
    columns = [candidate.spec.labels.index(label) for label in labels]
    own = candidate.probabilities[np.searchsorted(candidate.indices, indices)][:, columns]
    other = reference.probabilities[np.searchsorted(reference.indices, indices)]
    own_spec = _with_labels(candidate.spec, labels)
    predicted, expected = predict_labels(own, own_spec), predict_labels(other, reference.spec)
    differences = np.abs(own - other).max(1)
    furthest = np.argsort(-differences, kind="stable")[:MAX_DIFFERENT]
    different = tuple(
        DifferentImage(
            reference.name(int(indices[row])),
            float(differences[row]),
            _names(predicted[row], labels),
            _names(expected[row], labels),
        )
        for row in furthest.tolist()
    )
    agreeing = int(_agrees(predicted, expected, other, reference.spec).sum())
    targets = reference.split.targets[indices] if labelled else None
    metric = main_metric(reference.spec, targets)
    if targets is None or metric is None:
        return Agreement(len(indices), agreeing, float(differences.max()), different)
    metrics = [compute_metrics(own, targets, own_spec), compute_metrics(other, targets, reference.spec)]
    return Agreement(
        len(indices),
        agreeing,
        float(differences.max()),
        different,
        metric,
        (metrics[0][metric], metrics[1][metric]),
        (metrics[0]["ece"], metrics[1]["ece"]),
    )


def find_label_problem(candidate: ModelSpec, reference: ModelSpec) -> str | None:
    """Why a candidate cannot be compared with its reference; None if it can."""
    if candidate.task != reference.task:
        return f"the candidate is {candidate.task}, its reference is {reference.task}"
    if missing := set(reference.labels) ^ set(candidate.labels):
        return f"the candidate and its reference have other labels: {list_names(sorted(missing))}"
    return None


def main_metric(spec: ModelSpec, targets: Targets | None) -> str | None:
    """The metric in which a candidate may not fall below its reference.

    Args:
        spec: spec of the model.
        targets: the true labels; multiclass: int64 ``[images]``, multilabel: float32 ``[images, labels]``; None if they
            are unknown.

    Returns:
        ``accuracy``, or ``map`` of a multilabel model; None if these labels give it no value, so that they count as
        unknown: average precision needs images with a label and images without it.
    """
    if targets is None:
        return None
    if spec.task == "multiclass":
        return "accuracy"
    with_label = (targets > 0).sum(0)
    return "map" if ((with_label > 0) & (with_label < len(targets))).any() else None


def count_non_finite(probabilities: Probabilities) -> int:
    """Number of images for which a probability is NaN or infinite."""
    return int((~np.isfinite(probabilities)).any(1).sum())


def finite(probabilities: Probabilities) -> Probabilities:
    """Probabilities with numbers in place of those that are not finite, which fail the gate by themselves."""
    return np.nan_to_num(probabilities, nan=0.0, posinf=1.0, neginf=0.0)


def _with_labels(spec: ModelSpec, labels: tuple[str, ...]) -> ModelSpec:
    """A spec with its labels, and the thresholds of them, in another order."""
    if spec.thresholds is None:
        return spec.model_copy(update={"labels": labels})
    thresholds = dict(zip(spec.labels, spec.thresholds, strict=True))
    return spec.model_copy(update={"labels": labels, "thresholds": tuple(thresholds[label] for label in labels)})


def _agrees(
    predicted: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], reference: Probabilities, spec: ModelSpec
) -> npt.NDArray[np.bool_]:
    if spec.thresholds is None:
        rows = np.arange(len(reference))
        return reference[rows, predicted] >= reference.max(1) - TIE  # type: ignore[no-any-return]
    close = np.abs(reference - np.array(spec.thresholds)) <= TIE
    return ((predicted == expected) | close).all(1)  # type: ignore[no-any-return]


def _names(predicted: npt.NDArray[np.int64] | np.int64, labels: tuple[str, ...]) -> str:
    if np.ndim(predicted) == 0:
        return labels[int(predicted)]
    return "|".join(labels[index] for index in np.flatnonzero(predicted))
