"""All predictions of an evaluation as a CSV file, one row per image."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamiz.files import staged

from .evaluation import Evaluation
from .metrics import predict_labels

COLUMNS = ("path", "true", "predicted", "score", "correct", "error")


def write_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write one row per image of the split, in its order.

    The columns are ``path`` (``test[17]`` if the data set has no files), ``true`` and ``predicted`` (multilabel: the
    labels joined by ``|``), ``score`` (the probability of the predicted label; multilabel: of the least probable
    predicted label, empty if no label is predicted), ``correct`` (1 or 0; multilabel: whether all labels are right)
    and ``error``, which says why an image could not be read. An image without an error has a column ``probability:``
    for each label.

    Args:
        evaluation: the evaluation.
        path: the file to write; the paths in it have the form of `tamiz.path_text`.

    Raises:
        OutputError: the file cannot be written.
    """
    with staged(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *(f"probability:{label}" for label in evaluation.spec.labels)])
        writer.writerows(_rows(evaluation))


def true_labels(evaluation: Evaluation, index: int) -> str:
    """The true label of an image of the split; multilabel: its labels joined by ``|``."""
    return _join(evaluation.spec.labels, evaluation.split.targets[index])


def _rows(evaluation: Evaluation) -> Iterator[Sequence[object]]:
    labels = evaluation.spec.labels
    predicted = predict_labels(evaluation.probabilities, evaluation.spec)
    row_of = {index: row for row, index in enumerate(evaluation.indices.tolist())}
    messages = iter(evaluation.unreadable)
    for index in range(len(evaluation.split)):
        name, true = evaluation.name(index), true_labels(evaluation, index)
        if (row := row_of.get(index)) is None:
            yield name, true, "", "", "", next(messages, "unreadable")
            continue
        probabilities, target = evaluation.probabilities[row], evaluation.split.targets[index]
        chosen = probabilities[predicted[row] > 0] if predicted.ndim == 2 else probabilities[[predicted[row]]]
        yield (
            name,
            true,
            _join(labels, predicted[row]),
            f"{chosen.min():.6g}" if len(chosen) else "",
            int(np.array_equal(predicted[row], target)),
            "",
            *(f"{probability:.6g}" for probability in probabilities.tolist()),
        )


def _join(labels: Sequence[str], target: npt.ArrayLike) -> str:
    chosen = np.asarray(target)
    if chosen.ndim == 0:
        return labels[int(chosen)]
    return "|".join(labels[index] for index in np.flatnonzero(chosen))
