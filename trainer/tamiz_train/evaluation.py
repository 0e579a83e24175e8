"""Evaluation: the predictions of a model on the images of a split, and the metrics that follow from them.

Trained networks, graphs and served models are evaluated with the same code. Nothing here needs PyTorch; the evaluation
of a network is in `tamiz_train.inference`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tamiz import Client
from tamiz.arguments import check_instance
from tamiz.errors import InvalidImageError, RunError, list_names
from tamiz.image_bar import ImageBar
from tamiz.preprocessing import Pixels
from tamiz.spec import ModelSpec

from .data import Split
from .data.reader import read_batches
from .metrics import (
    CalibrationBin,
    ClassMetrics,
    Probabilities,
    Targets,
    compute_calibration,
    compute_class_metrics,
    compute_metrics,
    confusion_matrix,
    predict_labels,
)
from .metrics import tune_thresholds as best_thresholds

BATCH_SIZE = 64

MAX_MISTAKES = 1000
"""Largest number of mistakes in a JSON document; predictions.csv has all of them."""


@dataclass(frozen=True)
class Mistake:
    """An image with a wrong prediction.

    Attributes:
        index: index of the image in the split.
        image: name of the image; see `Evaluation.name`.
        predicted: the predicted label; multilabel: of the labels predicted wrongly, the most confident one, with
            ``no`` before it when it was not predicted.
        true: the true label; multilabel: ``yes`` when the image has that label, otherwise ``no``.
        confidence: the probability that the model gives its prediction.
    """

    index: int
    image: str
    predicted: str
    true: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a model on one split, and the metrics that follow from them.

    Attributes:
        split: the images and their targets.
        spec: spec of the model.
        probabilities: float32 ``[images, labels]``, of the images that could be read.
        indices: int64 ``[images]``, the index of each of these images in the split.
        unreadable: one message for each image that could not be read, in the order of the split.
    """

    split: Split
    spec: ModelSpec
    probabilities: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    unreadable: tuple[str, ...]

    def with_spec(self, spec: ModelSpec) -> Evaluation:
        """The same probabilities evaluated with the thresholds of another spec."""
        check_instance("spec", spec, ModelSpec)
        return replace(self, spec=spec)

    def name(self, index: int) -> str:
        """Name of an image of the split: the text of its path, or ``test[17]`` if the data set has no files."""
        return self.split.image_name(index)

    @property
    def images(self) -> int:
        """Number of images that could be read."""
        return len(self.indices)

    @cached_property
    def targets(self) -> Targets:
        """Targets of the images that could be read."""
        return self.split.targets[self.indices]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics by name; see `tamiz_train.metrics.compute_metrics`."""
        return compute_metrics(self.probabilities, self.targets, self.spec)

    @cached_property
    def classes(self) -> list[ClassMetrics]:
        """Metrics of each label, in the order of the labels."""
        return compute_class_metrics(self.probabilities, self.targets, self.spec)

    @cached_property
    def confusion_matrix(self) -> npt.NDArray[np.int64]:
        """Images by true and predicted label; see `tamiz_train.metrics.confusion_matrix`."""
        return confusion_matrix(self.probabilities, self.targets, self.spec)

    @cached_property
    def calibration(self) -> list[CalibrationBin]:
        """Predictions by confidence; see `tamiz_train.metrics.compute_calibration`."""
        return compute_calibration(self.probabilities, self.targets, self.spec)

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """The images with a wrong prediction, the most confident mistake first."""
        find = self._multiclass_mistakes if self.spec.task == "multiclass" else self._multilabel_mistakes
        return sorted(find(), key=lambda mistake: -mistake.confidence)

    @cached_property
    def summary(self) -> str:
        """One sentence: the best and the worst recognised label, and what the worst is most often confused with."""
        present = [figures for figures in self.classes if figures.support]
        if len(present) < 2:
            return "too few labels have images to compare them"
        best = max(present, key=lambda figures: figures.f1)
        worst = min(present, key=lambda figures: figures.f1)
        text = f"best recognised: {best.label} (F1 {best.f1:.3f}); worst recognised: {worst.label} (F1 {worst.f1:.3f}"
        if self.spec.task == "multiclass":
            row = self.confusion_matrix[self.spec.labels.index(worst.label)].copy()
            row[self.spec.labels.index(worst.label)] = 0
            if row.any():
                confused = self.spec.labels[int(row.argmax())]
                text += f", most often predicted as {confused}: {row.max()} of {worst.support}"
        return text + ")"

    def differences(self, other: Evaluation) -> int:
        """Number of images whose predicted labels differ between two models, or that only one of them could read."""
        check_instance("other", other, Evaluation)
        mine, others = (
            dict(zip(each.indices.tolist(), predict_labels(each.probabilities, each.spec), strict=True))
            for each in (self, other)
        )
        both = mine.keys() & others.keys()
        return len(mine.keys() ^ others.keys()) + sum(not np.array_equal(mine[i], others[i]) for i in both)

    def to_dict(self) -> dict[str, Any]:
        """The metrics as ``tamiz evaluate --json`` prints them, with the most confident `MAX_MISTAKES` mistakes."""
        return {
            "split": self.split.name,
            "images": self.images,
            "unreadable": len(self.unreadable),
            "metrics": self.metrics,
            "classes": [asdict(figures) for figures in self.classes],
            "confusion_matrix": self.confusion_matrix.tolist(),
            "calibration": [asdict(bin) for bin in self.calibration],
            "mistakes": len(self.mistakes),
            "most_confident_mistakes": [asdict(mistake) for mistake in self.mistakes[:MAX_MISTAKES]],
        }

    def _multiclass_mistakes(self) -> list[Mistake]:
        labels, predicted = self.spec.labels, predict_labels(self.probabilities, self.spec)
        return [
            Mistake(
                index=int(self.indices[row]),
                image=self.name(int(self.indices[row])),
                predicted=labels[predicted[row]],
                true=labels[int(self.targets[row])],
                confidence=float(self.probabilities[row, predicted[row]]),
            )
            for row in np.flatnonzero(predicted != self.targets)
        ]

    def _multilabel_mistakes(self) -> list[Mistake]:
        labels, predicted = self.spec.labels, predict_labels(self.probabilities, self.spec)
        wrong = predicted != self.targets
        confidence = np.where(predicted > 0, self.probabilities, 1 - self.probabilities)
        mistakes = []
        for row in np.flatnonzero(wrong.any(1)):
            worst = int(np.where(wrong[row], confidence[row], -1).argmax())
            positive = bool(predicted[row, worst])
            mistakes.append(
                Mistake(
                    index=int(self.indices[row]),
                    image=self.name(int(self.indices[row])),
                    predicted=labels[worst] if positive else f"no {labels[worst]}",
                    true="no" if positive else "yes",
                    confidence=float(confidence[row, worst]),
                )
            )
        return mistakes


def evaluate_function(compute: Callable[[Pixels], Probabilities], split: Split, spec: ModelSpec) -> Evaluation:
    """Evaluate any model on a split.

    Args:
        compute: the model, from uint8 ``[batch, height, width, channels]`` to probabilities, float32
            ``[batch, labels]``.
        split: the images and their targets.
        spec: spec of the model; its preprocessing is applied to the images.

    Raises:
        UsageError: an argument is wrong.
    """
    check_instance("split", split, Split)
    check_instance("spec", spec, ModelSpec)
    probabilities, indices = [np.empty((0, len(spec.labels)), np.float32)], [np.empty(0, np.int64)]
    unreadable: list[str] = []
    with ImageBar(split.name, len(split)) as bar:
        for images, places, messages in read_batches(split, spec.preprocessing, BATCH_SIZE):
            unreadable += messages
            if len(images):
                probabilities.append(compute(images))
                indices.append(places)
            bar.advance(len(images) + len(messages))
    return Evaluation(split, spec, np.concatenate(probabilities), np.concatenate(indices), tuple(unreadable))


def evaluate_served(client: Client, split: Split, spec: ModelSpec) -> Evaluation:
    """Evaluate a served model on a split.

    Args:
        client: client of the model, inside its ``with`` block.
        split: the images and their targets.
        spec: spec of the run that the model is compared with; the result has its labels in its order.

    Raises:
        RunError: the served model has other labels.
        ServerError: the server does not answer.
    """
    check_instance("split", split, Split)
    served = client.spec
    if set(served.labels) != set(spec.labels):
        raise RunError(
            f"{client.model} version {client.live_version} has the labels {list_names(served.labels)}; the run has "
            f"{list_names(spec.labels)}"
        )
    column = {label: index for index, label in enumerate(spec.labels)}
    probabilities = np.zeros((len(split), len(spec.labels)), np.float32)
    indices, unreadable = [], []
    outcomes = client.classify_many(iter(split.images), top_k=len(spec.labels), on_error="return")
    with ImageBar(split.name, len(split)) as bar:
        for index, outcome in enumerate(outcomes):
            bar.advance()
            if isinstance(outcome, InvalidImageError):
                unreadable.append(str(outcome))
                continue
            indices.append(index)
            for scored in outcome.top:
                probabilities[index, column[scored.label]] = scored.score
    if served.thresholds is not None:
        thresholds = dict(zip(served.labels, served.thresholds, strict=True))
        spec = spec.model_copy(update={"thresholds": tuple(thresholds[label] for label in spec.labels)})
    read = np.array(indices, np.int64)
    return Evaluation(split, spec, probabilities[read], read, tuple(unreadable))


def tune_thresholds(evaluation: Evaluation) -> tuple[float, ...]:
    """The thresholds with the highest F1 on the evaluated images; see `tamiz_train.metrics.tune_thresholds`."""
    return best_thresholds(evaluation.probabilities, evaluation.targets)
