"""Evaluation: what a model says of the images of a split, and how often it is right.

Of a run's own weights always in float32, whatever precision the run was trained in, since that is what is exported
and served. A served model is measured by the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tamiz import Client
from tamiz.errors import InvalidImageError, RunError
from tamiz.prediction import Prediction, interpret
from tamiz.preprocessing import ImageSource, prepare
from tamiz.spec import ModelSpec

from . import metrics
from .data import Data, Split, create_loader, load_data
from .data.split import SPLITS
from .models import Classifier
from .run import Run

BATCH_SIZE = 64


class Mistake(NamedTuple):
    """An image that a model is wrong about.

    Attributes:
        index: its place in the split.
        told: the label told; multilabel: the label it is most wrong about.
        truth: the true label; multilabel: ``yes`` or ``no``.
        confidence: probability of what was told.
    """

    index: int
    told: str
    truth: str
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """A model measured on one split.

    Attributes:
        split: the images and their targets.
        spec: of the model.
        probabilities: float32 ``[images, labels]``, of the images that could be read.
        indices: int64 ``[images]``, each image's place in the split.
        broken: a message for each image that could not be read.
    """

    split: Split
    spec: ModelSpec
    probabilities: npt.NDArray[np.float32]
    indices: npt.NDArray[np.int64]
    broken: tuple[str, ...]

    def with_spec(self, spec: ModelSpec) -> Evaluation:
        """The same answers under another spec's thresholds."""
        return replace(self, spec=spec)

    @property
    def images(self) -> int:
        """How many were read."""
        return len(self.indices)

    @cached_property
    def targets(self) -> metrics.Targets:
        """Of the images that were read."""
        return self.split.targets[self.indices]

    @cached_property
    def metrics(self) -> dict[str, float]:
        """See `metrics.measure`."""
        return metrics.measure(self.probabilities, self.targets, self.spec)

    @cached_property
    def classes(self) -> list[metrics.ClassFigures]:
        """See `metrics.measure_classes`."""
        return metrics.measure_classes(self.probabilities, self.targets, self.spec)

    @cached_property
    def confusions(self) -> npt.NDArray[np.int64]:
        """See `metrics.count_confusions`."""
        return metrics.count_confusions(self.probabilities, self.targets, self.spec)

    @cached_property
    def calibration(self) -> list[metrics.Bin]:
        """See `metrics.calibration`."""
        return metrics.calibration(self.probabilities, self.targets, self.spec)

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """The images that the model is wrong about, the most confident mistake first."""
        predicted = metrics.decide(self.probabilities, self.spec)
        labels = self.spec.labels
        found = []
        for row, index in enumerate(self.indices.tolist()):
            if self.spec.task == "multiclass":
                told, truth = int(predicted[row]), int(self.targets[row])
                if told != truth:
                    found.append(Mistake(index, labels[told], labels[truth], float(self.probabilities[row, told])))
            elif (wrong := predicted[row] != self.targets[row]).any():
                confidence = np.where(predicted[row] > 0, self.probabilities[row], 1 - self.probabilities[row])
                worst = int(np.where(wrong, confidence, -1).argmax())
                said = labels[worst] if predicted[row, worst] else f"no {labels[worst]}"
                truth = "no" if predicted[row, worst] else "yes"
                found.append(Mistake(index, said, truth, float(confidence[worst])))
        return sorted(found, key=lambda mistake: -mistake.confidence)

    def differences(self, other: Evaluation) -> int:
        """Images of which two models say different things, or that only one of them could read."""
        mine, others = (
            dict(zip(each.indices.tolist(), metrics.decide(each.probabilities, each.spec), strict=True))
            for each in (self, other)
        )
        both = mine.keys() & others.keys()
        return len(mine.keys() ^ others.keys()) + sum(not np.array_equal(mine[i], others[i]) for i in both)

    def in_words(self) -> str:
        """Which labels are told best and worst, and what the worst is taken for."""
        seen = [figures for figures in self.classes if figures.support]
        if len(seen) < 2:
            return "too few labels have images to compare them"
        best, worst = max(seen, key=lambda figures: figures.f1), min(seen, key=lambda figures: figures.f1)
        words = f"told best: {best.label} (F1 {best.f1:.3f}); told worst: {worst.label} (F1 {worst.f1:.3f}"
        if self.spec.task == "multiclass":
            row = self.confusions[self.spec.labels.index(worst.label)].copy()
            row[self.spec.labels.index(worst.label)] = 0
            if row.any():
                words += f", most often taken for {self.spec.labels[int(row.argmax())]}: {row.max()} of {worst.support}"
        return words + ")"

    def to_dict(self) -> dict[str, Any]:
        """The figures, as ``tamiz evaluate --json`` prints them."""
        return {
            "split": self.split.name,
            "images": self.images,
            "broken": len(self.broken),
            "metrics": self.metrics,
            "classes": [figures._asdict() for figures in self.classes],
            "confusions": self.confusions.tolist(),
            "calibration": [bin._asdict() for bin in self.calibration],
        }


def load_run_data(run: Run, names: Collection[str] = SPLITS) -> Data:
    """The images of a finished run.

    Args:
        run: the run.
        names: of the splits that are wanted.

    Raises:
        RecipeError: they are not there.
        RunError: their labels are not the run's any more; or images were added or taken away, so that splits drawn
            by chance are others now, and what it is measured on may be what it was trained on.
    """
    data = load_data(run.recipe.data, run.recipe.train.seed)
    if drawn := run.changed(data) & data.drawn & set(names):
        raise RunError(
            f"{run.recipe.data.root} has other images than the run was trained on, and {' and '.join(sorted(drawn))}, "
            "drawn from them by chance, would hold images of its training; bring the old ones back, or train again"
        )
    return data


def evaluate(classifier: Classifier, split: Split, spec: ModelSpec, *, num_workers: int = 0) -> Evaluation:
    """Measure a network on a split.

    Args:
        classifier: the network, on any device.
        split: the images.
        spec: of the network; prepares the images.
        num_workers: processes that load images.
    """
    loader = create_loader(split, spec.preprocessing, batch_size=BATCH_SIZE, num_workers=num_workers)
    probabilities, indices, broken = [np.empty((0, len(spec.labels)), np.float32)], [np.empty(0, np.int64)], []
    device = classifier.scale.device
    classifier.eval()
    for batch in loader:
        broken += batch.broken
        if len(batch.targets):
            with torch.inference_mode():
                told = classifier.probabilities(classifier(batch.images.to(device)))
            probabilities.append(told.cpu().numpy())
            indices.append(batch.indices.numpy())
    return Evaluation(split, spec, np.concatenate(probabilities), np.concatenate(indices), tuple(broken))


def evaluate_served(client: Client, split: Split, spec: ModelSpec) -> Evaluation:
    """Measure a served model on a split.

    Args:
        client: of the model.
        split: the images.
        spec: of the run that it is held against; its labels give the order.

    Raises:
        RunError: the served model has other labels.
        ServerError: it does not answer.
    """
    if set(client.spec.labels) != set(spec.labels):
        raise RunError(
            f"{client.model} version {client.live_version} has the labels {', '.join(client.spec.labels)}; the run has "
            f"{', '.join(spec.labels)}"
        )
    place = {label: index for index, label in enumerate(spec.labels)}
    probabilities = np.zeros((len(split), len(spec.labels)), np.float32)
    indices, broken = [], []
    outcomes = client.classify_many(iter(split.images), top_k=len(spec.labels), on_error="return")
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, InvalidImageError):
            broken.append(str(outcome))
        else:
            indices.append(index)
            for scored in outcome.top:
                probabilities[index, place[scored.label]] = scored.score
    served = spec
    if client.spec.thresholds is not None:
        thresholds = dict(zip(client.spec.labels, client.spec.thresholds, strict=True))
        served = spec.model_copy(update={"thresholds": tuple(thresholds[label] for label in spec.labels)})
    read = np.array(indices, np.int64)
    return Evaluation(split, served, probabilities[read], read, tuple(broken))


def predict(
    run: Run,
    images: Sequence[ImageSource],
    *,
    top_k: int = 1,
    features: list[npt.NDArray[np.float32] | None] | None = None,
) -> list[Prediction | Exception]:
    """Classify images with a run's weights, without a server.

    Args:
        run: a finished run.
        images: paths, bytes of image files, or pixels.
        top_k: how many labels each prediction's ``top`` holds.
        features: gets for each image its pooled features, float32 ``[width]``, which the network's head takes; None
            for one that cannot be read.

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
        pooled: Iterator[npt.NDArray[np.float32]] = iter(())
        if prepared:
            with torch.inference_mode(), classifier.pooled_features() as seen:
                logits = classifier(torch.from_numpy(np.stack(prepared)))
                probabilities = classifier.probabilities(logits).numpy()
            predictions = iter(interpret(probabilities, run.spec, top_k=top_k, version=0, model=run.recipe.name))
            pooled = iter(seen[0].numpy())
        results += [next(predictions) if error is None else error for error in outcome]
        if features is not None:
            features += [next(pooled) if error is None else None for error in outcome]
    return results


def tune_thresholds(measured: Evaluation) -> tuple[float, ...]:
    """See `metrics.tune_thresholds`."""
    return metrics.tune_thresholds(measured.probabilities, measured.targets)
