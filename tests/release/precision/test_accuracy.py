"""What a graph of lower precision loses."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_spec

from tamiz_release.precision.accuracy import measure_accuracy

SPEC = make_spec(["cat", "dog"])
EXPECTED = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], np.float32)


def test_equal_probabilities_lose_nothing() -> None:
    accuracy = measure_accuracy(EXPECTED, EXPECTED, SPEC, np.array([0, 1, 1, 1]))
    assert (accuracy.agreement, accuracy.deviation, accuracy.largest_difference) == (1, 0, 0)
    assert (accuracy.metric, accuracy.value, accuracy.reference, accuracy.loss_points) == ("accuracy", 0.75, 0.75, 0)
    assert str(accuracy) == "accuracy 0.7500 (FP32: 0.7500), labels agree on 100.00% of 4 images"


def test_lost_accuracy_is_in_points_and_may_be_a_gain() -> None:
    changed = EXPECTED.copy()
    changed[1] = [0.55, 0.45]
    loss = measure_accuracy(changed, EXPECTED, SPEC, np.array([0, 1, 1, 0]))
    assert loss.loss_points == pytest.approx(25)
    assert loss.agreement == 0.75
    assert loss.deviation == pytest.approx(0.15 / 4)
    assert loss.largest_difference == pytest.approx(0.15)
    gain = measure_accuracy(changed, EXPECTED, SPEC, np.array([0, 0, 1, 0]))
    assert gain.loss_points == pytest.approx(-25)


def test_without_true_labels_the_agreement_alone_is_known() -> None:
    changed = EXPECTED[:, ::-1]
    accuracy = measure_accuracy(changed, EXPECTED, SPEC, None)
    assert (accuracy.loss_points, accuracy.disagreement_points) == (None, 100)
    assert str(accuracy) == "labels agree on 0.00% of 4 images"


def test_outputs_that_are_not_finite_agree_on_nothing() -> None:
    changed = EXPECTED.copy()
    changed[0] = np.nan
    accuracy = measure_accuracy(changed, EXPECTED, SPEC, np.array([0, 1, 1, 0]))
    assert (accuracy.finite, accuracy.agreement, accuracy.deviation, accuracy.value) == (False, 0, 1, 0)
    assert str(accuracy) == "its outputs are not finite"


@pytest.mark.parametrize("targets", [[[1, 1]] * 4, [[0, 0]] * 4, [[1, 0]] * 4])
def test_labels_that_give_the_metric_no_value_are_unknown_labels(targets: list[list[int]]) -> None:
    """Average precision needs images with a label and images without it."""
    spec = make_spec(["cat", "dog"], task="multilabel", thresholds=(0.5, 0.5))
    accuracy = measure_accuracy(EXPECTED[:, ::-1], EXPECTED, spec, np.array(targets, np.float32))
    assert (accuracy.metric, accuracy.value, accuracy.reference, accuracy.loss_points) == (None, None, None, None)
    assert accuracy.disagreement_points == 100


def test_a_multilabel_model_is_measured_by_map_and_by_all_labels_of_an_image() -> None:
    spec = make_spec(["cat", "dog"], task="multilabel", thresholds=(0.5, 0.5))
    targets = np.array([[1, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    changed = EXPECTED.copy()
    changed[0, 1] = 0.7
    accuracy = measure_accuracy(changed, EXPECTED, spec, targets)
    assert accuracy.metric == "map"
    assert accuracy.agreement == 0.75
    assert accuracy.reference is not None
    assert accuracy.value is not None
    assert accuracy.value < accuracy.reference
