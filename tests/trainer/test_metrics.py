from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as reference
from graphs import make_spec

from tamiz import ModelSpec
from tamiz_train import metrics

CLASSES = make_spec(["a", "b", "c"])
SEVERAL = ModelSpec(
    task="multilabel",
    labels=("a", "b", "c"),
    thresholds=(0.5, 0.4, 0.6),
    preprocessing=CLASSES.preprocessing,
    normalisation=CLASSES.normalisation,
)


def make(seed: int = 0, images: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 3, images)
    logits = random.normal(size=(images, 3)) + 1.5 * np.eye(3)[targets]
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    several = (random.random((images, 3)) < 0.4).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-random.normal(size=(images, 3)) - 2 * several + 1))
    return softmax.astype(np.float32), targets, sigmoid.astype(np.float32), several


def test_multiclass_metrics_equal_those_of_torchmetrics() -> None:
    probabilities, targets, _, _ = make()
    measured = metrics.compute_metrics(probabilities, targets, CLASSES)
    predicted, truth = torch.from_numpy(probabilities), torch.from_numpy(targets)
    assert measured == {
        "accuracy": pytest.approx(reference.multiclass_accuracy(predicted, truth, 3, average="micro").item()),
        "precision": pytest.approx(reference.multiclass_precision(predicted, truth, 3).item()),
        "recall": pytest.approx(reference.multiclass_recall(predicted, truth, 3).item()),
        "f1": pytest.approx(reference.multiclass_f1_score(predicted, truth, 3).item()),
        "loss": pytest.approx(torch.nn.functional.nll_loss(predicted.log(), truth).item(), rel=1e-5),
        "ece": pytest.approx(reference.multiclass_calibration_error(predicted, truth, 3, n_bins=15).item(), rel=1e-5),
    }


def test_multilabel_metrics_equal_those_of_torchmetrics() -> None:
    _, _, probabilities, targets = make()
    measured = metrics.compute_metrics(probabilities, targets, SEVERAL)
    # Torchmetrics has one threshold for all labels, so each label's own threshold is applied here.
    predicted = torch.from_numpy((probabilities >= np.array(SEVERAL.thresholds)).astype(np.int64))
    raw, truth = torch.from_numpy(probabilities), torch.from_numpy(targets).long()
    assert measured == {
        "f1_macro": pytest.approx(reference.multilabel_f1_score(predicted, truth, 3).item()),
        "f1_micro": pytest.approx(reference.multilabel_f1_score(predicted, truth, 3, average="micro").item()),
        "precision": pytest.approx(reference.multilabel_precision(predicted, truth, 3).item()),
        "recall": pytest.approx(reference.multilabel_recall(predicted, truth, 3).item()),
        "map": pytest.approx(reference.multilabel_average_precision(raw, truth, 3).item()),
        "auc": pytest.approx(reference.multilabel_auroc(raw, truth, 3).item()),
        "subset_accuracy": pytest.approx(reference.multilabel_exact_match(predicted, truth, 3).item()),
        "hamming_loss": pytest.approx(reference.multilabel_hamming_distance(predicted, truth, 3).item()),
        "loss": pytest.approx(torch.nn.functional.binary_cross_entropy(raw, truth.float()).item(), rel=1e-5),
        "ece": pytest.approx(
            reference.binary_calibration_error(raw.ravel(), truth.ravel(), n_bins=15).item(), rel=1e-5
        ),
    }


def test_labels_without_images_and_splits_without_images_have_metrics() -> None:
    certain = np.eye(3, dtype=np.float32)[[0, 1]]
    measured = metrics.compute_metrics(certain, np.array([0, 1]), CLASSES)
    assert measured["accuracy"] == 1
    assert measured["recall"] == pytest.approx(2 / 3)
    assert np.isfinite(measured["loss"])
    assert metrics.compute_metrics(np.empty((0, 3), np.float32), np.empty(0, np.int64), CLASSES) == {}
    alone = metrics.compute_metrics(certain, np.zeros((2, 3), np.float32), SEVERAL)
    assert np.isnan(alone["map"])


def test_each_label_has_its_metrics_and_its_row_of_the_confusion_matrix() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 0, 1, 2, 2]] * 0.8 + 0.05
    targets = np.array([0, 1, 1, 2, 0])
    first, second, third = metrics.compute_class_metrics(probabilities, targets, CLASSES)
    assert first == metrics.ClassMetrics("a", 0.5, 0.5, 0.5, 2)
    assert (second.precision, second.recall, third.support) == (1, 0.5, 1)
    assert metrics.confusion_matrix(probabilities, targets, CLASSES).tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    several = metrics.confusion_matrix(probabilities, np.eye(3, dtype=np.float32)[targets], SEVERAL)
    assert several.shape == (3, 2, 2)
    assert several[0].tolist() == [[2, 1], [1, 1]]


def test_tuned_thresholds_have_the_highest_f1() -> None:
    _, _, probabilities, targets = make(3)
    tuned = metrics.tune_thresholds(probabilities, targets)
    for label, threshold in enumerate(tuned):
        truth = targets[:, label] > 0

        def f1(at: float, label: int = label, truth: np.ndarray = truth) -> float:
            predicted = probabilities[:, label] >= at
            return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())

        assert f1(threshold) == pytest.approx(max(f1(at) for at in np.linspace(0, 1, 2001)), abs=1e-3)
        # No probability is so close to the threshold that its last bits would decide.
        assert np.abs(probabilities[:, label] - threshold).min() > 0.9e-4
    assert metrics.tune_thresholds(probabilities, np.zeros_like(targets)) == (0.5, 0.5, 0.5)
    # Probabilities that are closer together than the gap have no threshold between them.
    alike = (0.5 + 1e-6 * np.arange(900).reshape(300, 3) / 900).astype(np.float32)
    assert max(metrics.tune_thresholds(alike, targets)) < 0.3


def test_predictions_are_grouped_by_confidence() -> None:
    probabilities = np.array([[0.95, 0.03, 0.02], [0.97, 0.02, 0.01], [0.4, 0.3, 0.3]], np.float32)
    low, high = metrics.compute_calibration(probabilities, np.array([0, 1, 0]), CLASSES)
    assert (low.count, low.confidence, low.accuracy) == (1, pytest.approx(0.4), 1)
    assert (high.count, high.confidence, high.accuracy) == (2, pytest.approx(0.96), 0.5)
