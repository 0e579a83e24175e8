"""Evaluation: what a trained run says of images, and how often it is right.

Always in float32, whatever precision the run was trained in, since that is what is exported and served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from tamiz.errors import InvalidImageError
from tamiz.prediction import Prediction, interpret
from tamiz.preprocessing import ImageSource, prepare
from tamiz.spec import ModelSpec

from .data import Batch, Split, create_loader
from .models import Classifier
from .run import Run

BATCH_SIZE = 64


@dataclass(frozen=True)
class Evaluation:
    """A run measured on one split.

    Attributes:
        split: its name.
        images: how many were read.
        broken: a message for each image that could not be read.
        metrics: ``accuracy`` (share of images), ``loss`` (mean cross-entropy), and macro averages over the
            classes ``precision``, ``recall`` and ``f1``.
        probabilities: float32 ``[images, classes]``.
        indices: int64 ``[images]``, each image's place in the split.
    """

    split: str
    images: int
    broken: tuple[str, ...]
    metrics: dict[str, float]
    probabilities: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """The figures, as ``tamiz evaluate --json`` prints them."""
        return {
            "split": self.split,
            "images": self.images,
            "broken": len(self.broken),
            "metrics": self.metrics,
        }


def evaluate(classifier: Classifier, split: Split, spec: ModelSpec, *, num_workers: int = 0) -> Evaluation:
    """Measure a network on a split.

    Args:
        classifier: the network, on any device.
        split: the images.
        spec: of the network; prepares the images.
        num_workers: processes that load images.
    """
    loader = create_loader(split, spec.preprocessing, batch_size=BATCH_SIZE, num_workers=num_workers)
    classes = len(spec.labels)
    metrics = MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "precision": MulticlassPrecision(classes),
            "recall": MulticlassRecall(classes),
            "f1": MulticlassF1Score(classes),
        }
    )
    probabilities, indices, broken = [], [], []
    loss = 0.0
    for batch, logits in _forward(classifier, loader):
        broken += batch.broken
        if len(batch.targets):
            metrics.update(logits, batch.targets)
            loss += torch.nn.functional.cross_entropy(logits, batch.targets, reduction="sum").item()
            probabilities.append(logits.softmax(1).numpy())
            indices.append(batch.indices.numpy())
    images = sum(len(part) for part in indices)
    figures = {name: value.item() for name, value in metrics.compute().items()} if images else {}
    return Evaluation(
        split.name,
        images,
        tuple(broken),
        figures | ({"loss": loss / images} if images else {}),
        np.concatenate(probabilities) if images else np.empty((0, classes), np.float32),
        np.concatenate(indices) if images else np.empty(0, np.int64),
    )


def predict(run: Run, images: Sequence[ImageSource], *, top_k: int = 1) -> list[Prediction | Exception]:
    """Classify images with a run's weights, without a server.

    Args:
        run: a finished run.
        images: paths, bytes of image files, or pixels.
        top_k: how many labels each prediction's ``top`` holds.

    Returns:
        one prediction for each image, in order; an `InvalidImageError` in the place of one that cannot be read.
    """
    classifier = run.load_model()
    results: list[Prediction | Exception] = []
    for start in range(0, len(images), BATCH_SIZE):
        prepared: list[npt.NDArray[np.uint8]] = []
        outcome: list[InvalidImageError | None] = []
        for image in images[start : start + BATCH_SIZE]:
            try:
                prepared.append(prepare(image, run.spec.preprocessing))
                outcome.append(None)
            except InvalidImageError as exc:
                outcome.append(exc)
        predictions: Iterator[Prediction] = iter(())
        if prepared:
            with torch.inference_mode():
                probabilities = classifier(torch.from_numpy(np.stack(prepared))).softmax(1).numpy()
            name = run.recipe.name
            predictions = iter(interpret(probabilities, run.spec, top_k=top_k, version=0, model=name))
        results += [next(predictions) if error is None else error for error in outcome]
    return results


def _forward(classifier: Classifier, loader: DataLoader[Batch]) -> Iterator[tuple[Batch, torch.Tensor]]:
    device = classifier.scale.device
    classifier.eval()
    for batch in loader:
        with torch.inference_mode():
            logits = classifier(batch.images.to(device)).cpu() if len(batch.targets) else torch.empty(0)
        yield batch, logits
