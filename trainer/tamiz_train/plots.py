"""Plots of an evaluation and contact sheets of images, each returned as the bytes of a PNG file.

Nothing here needs PyTorch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import Pixels, decode, prepare
from tamiz.spec import Preprocessing

from .evaluation import Evaluation
from .lettering import drawable, set_lettering

THUMBNAIL_SIDE = 144
"""Height and width of an image on a contact sheet, in pixels."""


def plot_confusion_matrix(evaluation: Evaluation) -> bytes:
    """Plot the confusion matrix; multilabel: the true positives, false negatives and false positives of each label."""
    labels = len(evaluation.spec.labels)
    if evaluation.spec.task == "multiclass":
        side = min(24.0, 3.0 + 0.45 * labels)
        figure = Figure(figsize=(side, side), layout="constrained")
        draw = _draw_multiclass
    else:
        figure = Figure(figsize=(8, min(24.0, 1.5 + 0.22 * labels)), layout="constrained")
        draw = _draw_multilabel
    axes = figure.add_subplot()
    draw(axes, evaluation)
    axes.set_title(f"{evaluation.split.name}: {evaluation.images:,} images")
    return _png(figure)


def _draw_multiclass(axes: Axes, evaluation: Evaluation) -> None:
    labels, counts = evaluation.spec.labels, evaluation.confusion_matrix
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if fractions[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), drawable(labels), rotation=90)
    axes.set_yticks(range(len(labels)), drawable(labels))
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")


def _draw_multilabel(axes: Axes, evaluation: Evaluation) -> None:
    matrices = evaluation.confusion_matrix
    true_positives, false_negatives, false_positives = matrices[:, 1, 1], matrices[:, 1, 0], matrices[:, 0, 1]
    places = np.arange(len(matrices))
    axes.barh(places, true_positives, color="tab:blue", label="true positives")
    axes.barh(places, false_negatives, left=true_positives, color="lightgrey", label="false negatives")
    axes.barh(places, -false_positives, color="tab:red", label="false positives")
    axes.set_yticks(places, drawable(evaluation.spec.labels))
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.legend()


def plot_reliability(evaluation: Evaluation) -> bytes:
    """Plot the accuracy of predictions over their confidence; a calibrated model follows the diagonal."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bins = evaluation.calibration
    confidence = [bin.confidence for bin in bins]
    total = max(1, sum(bin.count for bin in bins))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    axes.plot(confidence, [bin.accuracy for bin in bins], marker="o", color="tab:blue")
    axes.bar(confidence, [bin.count / total for bin in bins], width=0.03, alpha=0.3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy (line), fraction of predictions (bars)")
    axes.set_title(f"expected calibration error {evaluation.metrics.get('ece', math.nan):.3f}")
    return _png(figure)


def plot_history(epochs: Sequence[Mapping[str, Any]], best_epoch: int) -> bytes:
    """Plot the losses and the learning rate of each epoch of a run.

    Args:
        epochs: the metrics of each epoch, as metrics.json has them; a value that is missing or None is left out.
        best_epoch: number of the epoch whose weights were kept.
    """
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, rate = figure.subplots(1, 2)
    numbers = [epoch["epoch"] for epoch in epochs]
    for axes, name, text in (
        (losses, "train_loss", "training"),
        (losses, "validation_loss", "validation"),
        (rate, "lr", "learning rate"),
    ):
        values = [math.nan if epoch.get(name) is None else float(epoch[name]) for epoch in epochs]
        axes.plot(numbers, values, marker="." if len(numbers) < 100 else "", label=text)
    for axes, title in ((losses, "loss"), (rate, "learning rate")):
        axes.axvline(best_epoch, color="grey", linewidth=1, linestyle="--", label=f"best epoch: {best_epoch}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_title(title)
    losses.legend()
    return _png(figure)


def plot_mistakes(evaluation: Evaluation, limit: int = 40) -> bytes:
    """Plot a contact sheet of the most confident mistakes, each with its predicted and its true label.

    Args:
        evaluation: the evaluation.
        limit: the largest number of images shown.
    """
    images: list[Pixels | None] = []
    titles: list[tuple[str, str]] = []
    preprocessing = evaluation.spec.preprocessing
    for mistake in evaluation.mistakes[:limit]:
        try:
            images.append(
                decode(evaluation.split.images[mistake.index], preprocessing.colour, revision=preprocessing.revision)
            )
        except InvalidImageError:
            # The file was deleted or changed after the evaluation.
            images.append(None)
        (predicted,) = drawable([mistake.predicted], length=18)
        titles.append((f"{predicted} {mistake.confidence:.2f}", f"true: {mistake.true}"))
    return contact_sheet(images, titles)


def contact_sheet(images: Sequence[Pixels | None], titles: Sequence[Sequence[str]], columns: int = 8) -> bytes:
    """Plot images in rows, with a title above each.

    Args:
        images: uint8 ``[height, width]``, ``[height, width, 1]`` or ``[height, width, 3]``, of any sizes; None is
            shown as a black image.
        titles: the lines of each image's title.
        columns: number of images in a row.
    """
    rows = max(1, math.ceil(len(images) / columns))
    columns = max(1, min(columns, len(images)))
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows), layout="constrained")
    thumbnail = Preprocessing(height=THUMBNAIL_SIDE, width=THUMBNAIL_SIDE, resize="pad", interpolation="area")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        pixels = np.zeros((1, 1), np.uint8) if image is None else image
        axes.imshow(prepare(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels, thumbnail))
        axes.set_title("\n".join(drawable(title)), fontsize=7)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    set_lettering(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
