"""Comparison: which of two models is better on the same images, and on which images they differ.

Both models see the same images, so the statistics are those of paired data; see `tamiz_release.paired_statistics`.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tamiz.arguments import check_instance
from tamiz.errors import RunError
from tamiz.files import staged
from tamiz_train.evaluation import Evaluation
from tamiz_train.labelled_images import LabelledImages
from tamiz_train.metrics import Targets, predict_labels

from .paired_statistics import macro_f1, mcnemar, newcombe
from .sources import ModelSource

RESAMPLES = 2_000
"""Number of bootstrap samples of the interval of a multilabel comparison."""


def compare(first: ModelSource, second: ModelSource, images: LabelledImages) -> Comparison:
    """Evaluate two models on the same images, and compare them.

    Args:
        first: the first model.
        second: the second model.
        images: the images; leave out those that a model was fitted to, which would favour it.

    Raises:
        UsageError: neither model has the label of an image.
        RunError: the models cannot be compared, or no image could be read.
        ServerError: a server does not answer.
    """
    check_instance("first", first, ModelSource)
    check_instance("second", second, ModelSource)
    check_instance("images", images, LabelledImages)
    known = {*first.spec.labels, *second.spec.labels}
    images.require_labels(known, "neither model has")
    return Comparison(images, *(model.evaluate(images.to_split(model.spec)) for model in (first, second)))


def write_differences(comparison: Comparison, path: Path) -> None:
    """Write the images with different predictions to a CSV file.

    The columns are ``path``, ``true``, ``first``, ``second`` and ``right``; see `Difference`.

    Raises:
        OutputError: the file cannot be written.
    """
    with staged(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "true", "first", "second", "right"))
        writer.writerows(astuple(difference) for difference in comparison.differences)


@dataclass(frozen=True)
class Difference:
    """An image for which two models predict different labels.

    Attributes:
        image: name of the image.
        true: its true label; multilabel: its labels joined by ``|``.
        first: the labels that the first model predicts, in the same form.
        second: the labels that the second model predicts, in the same form.
        right: which model is right: ``first``, ``second`` or ``neither``.
    """

    image: str
    true: str
    first: str
    second: str
    right: str


@dataclass(frozen=True)
class LabelComparison:
    """How two models recognise one label.

    Attributes:
        label: the label.
        images: number of images that have this label.
        first: number of them for which the first model predicts it.
        second: number of them for which the second model predicts it.
    """

    label: str
    images: int
    first: int
    second: int


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same images.

    An image whose label a model does not have counts as wrong for that model.

    Attributes:
        images: the images with their true labels.
        first: evaluation of the first model on these images.
        second: evaluation of the second model on these images.

    Raises:
        RunError: no image could be read by both models; or one model is multilabel and the other is not, or both are
            and have other labels.
    """

    images: LabelledImages
    first: Evaluation
    second: Evaluation

    def __post_init__(self) -> None:
        first, second = self.first.spec, self.second.spec
        if first.task != second.task:
            raise RunError(f"the models cannot be compared: the first is {first.task}, the second is {second.task}")
        if first.task == "multilabel" and first.labels != second.labels:
            raise RunError("the models cannot be compared: multilabel models must have the same labels in one order")
        if not len(self._indices):
            raise RunError("nothing was compared: no image could be read by both models; check the images")

    @property
    def count(self) -> int:
        """Number of images that both models could read."""
        return len(self._indices)

    @property
    def metric(self) -> str:
        """Name of the compared metric: ``accuracy``, or ``f1_macro`` for multilabel models."""
        return "accuracy" if self.first.spec.task == "multiclass" else "f1_macro"

    @cached_property
    def values(self) -> tuple[float, float]:
        """The metric of the first and of the second model."""
        if self.metric == "accuracy":
            return float(self._right[0].mean()), float(self._right[1].mean())
        first, second = (macro_f1(np.ones((1, self.count)), *arrays) for arrays in self._decisions())
        return float(first[0]), float(second[0])

    @property
    def difference(self) -> float:
        """The metric of the second model minus that of the first."""
        return self.values[1] - self.values[0]

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Interval of 95 % of the difference.

        Accuracy: see `newcombe`. Macro F1: percentiles of a paired bootstrap over the images.
        """
        if self.metric == "accuracy":
            return newcombe(*self.table)
        random = np.random.default_rng(0)
        decisions = self._decisions()
        differences = []
        for _ in range(RESAMPLES // 100):
            # How often each image is in each of 100 samples.
            weights = random.multinomial(self.count, np.full(self.count, 1 / self.count), 100).astype(np.float64)
            first, second = (macro_f1(weights, *arrays) for arrays in decisions)
            differences.append(second - first)
        low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
        return float(low), float(high)

    @property
    def p_value(self) -> float:
        """The p-value of McNemar's exact test; multilabel: an image is right if all of its labels are."""
        _, only_first, only_second, _ = self.table
        return mcnemar(only_first, only_second)

    @property
    def better(self) -> str | None:
        """``first`` or ``second`` if the interval does not contain 0; None if the images do not decide it."""
        low, high = self.interval
        return "second" if low > 0 else "first" if high < 0 else None

    @cached_property
    def table(self) -> tuple[int, int, int, int]:
        """Number of images that both models, only the first, only the second, and neither of them have right."""
        first, second = self._right
        cases = (first & second, first & ~second, ~first & second, ~first & ~second)
        both, only_first, only_second, neither = (int(case.sum()) for case in cases)
        return both, only_first, only_second, neither

    @cached_property
    def differences(self) -> list[Difference]:
        """The images with different predictions: right by the first model, by the second, by neither."""
        order = ("first", "second", "neither")
        return sorted(self._find_differences(), key=lambda found: (order.index(found.right), found.image))

    @cached_property
    def labels(self) -> list[LabelComparison]:
        """How the models recognise each label that an image has."""
        images: Counter[str] = Counter()
        recognised: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for row, index in enumerate(self._indices.tolist()):
            true = self.images.labels[index]
            images.update(true)
            for predicted, counts in zip(self._predicted, recognised, strict=True):
                counts.update(set(true) & set(predicted[row]))
        known = dict.fromkeys([*self.second.spec.labels, *self.first.spec.labels, *images])
        return [
            LabelComparison(label, images[label], *(counts[label] for counts in recognised))
            for label in known
            if images[label]
        ]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as ``tamiz compare --json`` prints it."""
        both, only_first, only_second, neither = self.table
        return {
            "images": self.count,
            "metric": self.metric,
            "first": self.values[0],
            "second": self.values[1],
            "difference": self.difference,
            "interval": list(self.interval),
            "p_value": self.p_value,
            "better": self.better,
            "right": {"both": both, "only_first": only_first, "only_second": only_second, "neither": neither},
            "labels": [asdict(label) for label in self.labels],
            "differences": [asdict(difference) for difference in self.differences],
        }

    @cached_property
    def _indices(self) -> npt.NDArray[np.int64]:
        """Indices of the images that both models could read."""
        return np.intersect1d(self.first.indices, self.second.indices)

    @cached_property
    def _predicted(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """The labels that each model predicts for each of these images."""
        return self._predictions(self.first), self._predictions(self.second)

    def _predictions(self, evaluation: Evaluation) -> list[tuple[str, ...]]:
        labels = evaluation.spec.labels
        predicted = predict_labels(self._probabilities(evaluation), evaluation.spec)
        if predicted.ndim == 1:
            return [(labels[index],) for index in predicted.tolist()]
        return [tuple(labels[index] for index in np.flatnonzero(row)) for row in predicted]

    def _probabilities(self, evaluation: Evaluation) -> npt.NDArray[np.float32]:
        return evaluation.probabilities[np.searchsorted(evaluation.indices, self._indices)]

    @cached_property
    def _right(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether each model has all labels of each image right."""
        true = [set(self.images.labels[index]) for index in self._indices.tolist()]
        first, second = (
            np.array([set(labels) == expected for labels, expected in zip(predicted, true, strict=True)], bool)
            for predicted in self._predicted
        )
        return first, second

    def _find_differences(self) -> Iterator[Difference]:
        for row, index in enumerate(self._indices.tolist()):
            first, second = self._predicted[0][row], self._predicted[1][row]
            if set(first) != set(second):
                right = "first" if self._right[0][row] else "second" if self._right[1][row] else "neither"
                true = "|".join(self.images.labels[index])
                yield Difference(self.first.name(index), true, "|".join(first), "|".join(second), right)

    def _decisions(self) -> list[tuple[Targets, npt.NDArray[np.int64]]]:
        """For each model, the targets and the decisions, 0 or 1 ``[images, labels]``."""
        return [
            (evaluation.split.targets[self._indices], predict_labels(self._probabilities(evaluation), evaluation.spec))
            for evaluation in (self.first, self.second)
        ]
