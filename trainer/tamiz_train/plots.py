"""Pictures of an evaluation and of images: confusion matrix, reliability, contact sheet. Each is a PNG in bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from tamiz.errors import InvalidImageError
from tamiz.preprocessing import decode, prepare, resize
from tamiz.spec import Preprocessing

from .augmentation import check_augmentation, create_augmentation
from .data import Split
from .evaluation import Evaluation
from .recipe import Recipe

Pixels = npt.NDArray[np.uint8]
THUMBNAIL = 144
"""Pixels of a side of an image on a contact sheet."""


def plot_confusions(evaluation: Evaluation) -> bytes:
    """The confusion matrix; multilabel: for each label its images found, missed, and told without cause."""
    labels = evaluation.spec.labels
    if evaluation.spec.task == "multilabel":
        return _plot_multilabel(evaluation)
    counts = evaluation.confusions
    size = min(24.0, 3.0 + 0.45 * len(labels))
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(labels)), _short(labels), rotation=90)
    axes.set_yticks(range(len(labels)), _short(labels))
    axes.set_xlabel("told")
    axes.set_ylabel("true")
    axes.set_title(f"{evaluation.split.name}: {evaluation.images:,} images")
    return _png(figure)


def plot_reliability(evaluation: Evaluation) -> bytes:
    """How often predictions are right, by how confident they are; a calibrated model follows the diagonal."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bins = evaluation.calibration
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    axes.plot([bin.confidence for bin in bins], [bin.accuracy for bin in bins], marker="o", color="tab:blue")
    total = max(1, sum(bin.count for bin in bins))
    axes.bar([bin.confidence for bin in bins], [bin.count / total for bin in bins], width=0.03, alpha=0.3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right (line), share of predictions (bars)")
    axes.set_title(f"expected calibration error {evaluation.metrics.get('ece', math.nan):.3f}")
    return _png(figure)


def plot_mistakes(evaluation: Evaluation, limit: int = 40) -> bytes:
    """A contact sheet of the most confident mistakes, each with what was told and what is true."""
    chosen = evaluation.mistakes[:limit]
    images = []
    for mistake in chosen:
        colour = evaluation.spec.preprocessing.colour
        try:
            images.append(decode(evaluation.split.images[mistake.index], colour))
        except InvalidImageError:
            # Read a moment ago, and gone since.
            images.append(np.zeros((1, 1), np.uint8))
    titles = [f"{told} {confidence:.2f}\nis {truth}" for _, told, truth, confidence in chosen]
    return contact_sheet(images, titles)


def plot_samples(split: Split, labels: Sequence[str], recipe: Recipe, count: int = 16) -> bytes:
    """A contact sheet of images spread over a split: each as the network gets it, and beside it augmented.

    Args:
        split: the images.
        labels: that its targets are of.
        recipe: how they are prepared and augmented.
        count: of images.
    """
    augmentation = create_augmentation(recipe.augmentation, recipe.train.seed)
    images, titles = [], []
    for index in np.linspace(0, len(split) - 1, min(count, len(split))).astype(int).tolist():
        target = split.targets[index]
        title = labels[target] if split.targets.ndim == 1 else ", ".join(labels[i] for i in np.flatnonzero(target))
        try:
            plain = augmented = prepare(split.images[index], recipe.preprocessing)
            if augmentation is not None:
                pixels = decode(split.images[index], recipe.preprocessing.colour)
                check_augmentation(augmentation, pixels)
                augmented = resize(augmentation(image=pixels)["image"], recipe.preprocessing)
        except InvalidImageError:
            images += [np.zeros((1, 1), np.uint8)] * 2
            titles += [f"{title}\ncannot be read"] * 2
            continue
        images += [plain, augmented]
        titles += [f"{title}\nas it is", f"{title}\naugmented"]
    return contact_sheet(images, titles)


def contact_sheet(images: Sequence[Pixels], titles: Sequence[str], columns: int = 8) -> bytes:
    """Images in rows, with a title over each.

    Args:
        images: uint8 ``[height, width(, 1 or 3)]`` of any sizes.
        titles: one for each, of one or two lines.
        columns: images a row.
    """
    rows = max(1, math.ceil(len(images) / columns))
    columns = max(1, min(columns, len(images)))
    figure = Figure(figsize=(1.6 * columns, 1.95 * rows), layout="constrained")
    thumbnail = Preprocessing(height=THUMBNAIL, width=THUMBNAIL, resize="pad", interpolation="area")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        axes.imshow(prepare(pixels, thumbnail))
        # A dollar sign would begin a formula.
        axes.set_title("\n".join(_short(title.replace("$", r"\$").split("\n"))), fontsize=7)
    return _png(figure)


def _plot_multilabel(evaluation: Evaluation) -> bytes:
    seen = [(figures, table) for figures, table in zip(evaluation.classes, evaluation.confusions, strict=True)]
    figure = Figure(figsize=(8, min(24.0, 1.5 + 0.22 * len(seen))), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(seen))
    found, missed, without = (np.array([table[at] for _, table in seen]) for at in ((1, 1), (1, 0), (0, 1)))
    axes.barh(places, found, color="tab:blue", label="found")
    axes.barh(places, missed, left=found, color="lightgrey", label="missed")
    axes.barh(places, -without, color="tab:red", label="told without cause")
    axes.set_yticks(places, _short([figures.label for figures, _ in seen]))
    axes.invert_yaxis()
    axes.set_xlabel("images")
    axes.legend()
    axes.set_title(f"{evaluation.split.name}: {evaluation.images:,} images")
    return _png(figure)


def _short(texts: Sequence[str], length: int = 24) -> list[str]:
    return [text if len(text) <= length else text[: length - 1] + "…" for text in texts]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
