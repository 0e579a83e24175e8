"""Agreement of a candidate with its reference, from probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_spec

from tamiz import ModelSpec
from tamiz_release.gate.agreement import count_non_finite, find_label_problem, finite, measure_agreement
from tamiz_release.gate.checks import check_agreement
from tamiz_release.gate.limits import GateLimits
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation

SPEC = make_spec(["cat", "dog", "fox"])
TAGS = make_spec(["sun", "sea"], task="multilabel", thresholds=(0.5, 0.5))


def evaluation(
    probabilities: list[list[float]], targets: list, spec: ModelSpec = SPEC, indices: list[int] | None = None
) -> Evaluation:
    kind = np.float32 if spec.task == "multilabel" else np.int64
    split = Split("test", np.zeros((len(targets), 2, 2), np.uint8), np.array(targets, kind))
    rows = np.arange(len(targets)) if indices is None else np.array(indices)
    return Evaluation(split, spec, np.array(probabilities, np.float32), rows, ())


def test_the_figures_are_those_of_both_models_on_the_same_images() -> None:
    reference = evaluation([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.6, 0.2, 0.2]], [0, 1, 2, 1])
    candidate = evaluation([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.6, 0.2, 0.2]], [0, 1, 2, 1])
    found = measure_agreement(candidate, reference, labelled=True)
    assert (found.images, found.agreeing, found.label_agreement) == (4, 3, 0.75)
    assert found.largest_difference == pytest.approx(0.3)
    assert (found.metric, found.values, found.drop) == ("accuracy", (0.5, 0.75), 0.25)
    first = found.different[0]
    assert (first.image, first.candidate, first.reference) == ("test[2]", "cat", "fox")


def test_labels_are_compared_by_name() -> None:
    other = make_spec(["fox", "cat", "dog"])
    reference = evaluation([[0.8, 0.1, 0.1]], [0])
    candidate = evaluation([[0.1, 0.8, 0.1]], [1], other)
    assert measure_agreement(candidate, reference, labelled=True).largest_difference == 0


def test_images_that_only_one_could_read_do_not_count() -> None:
    reference = evaluation([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [0, 1, 2], indices=[0, 2])
    candidate = evaluation([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [0, 1, 2], indices=[0, 1])
    assert measure_agreement(candidate, reference, labelled=True).images == 1
    nothing = evaluation([[0.1, 0.8, 0.1]], [0, 1, 2], indices=[1])
    assert measure_agreement(nothing, reference, labelled=True) is None


def test_a_tie_of_the_reference_is_no_disagreement_and_a_close_second_is() -> None:
    reference = evaluation([[0.45, 0.45 - 5e-5, 0.1], [0.45, 0.449, 0.1]], [0, 0])
    candidate = evaluation([[0.44, 0.46, 0.1], [0.44, 0.46, 0.1]], [0, 0])
    assert measure_agreement(candidate, reference, labelled=True).agreeing == 1


def test_a_probability_at_its_threshold_is_a_tie() -> None:
    reference = evaluation([[0.50001, 0.9], [0.6, 0.9]], [[1, 1], [1, 1]], TAGS)
    candidate = evaluation([[0.49999, 0.9], [0.4, 0.9]], [[1, 1], [1, 1]], TAGS)
    assert measure_agreement(candidate, reference, labelled=True).agreeing == 1


def test_a_multilabel_model_is_measured_by_mean_average_precision() -> None:
    targets = [[1, 0], [0, 1], [1, 1], [0, 0]]
    reference = evaluation([[0.9, 0.1], [0.1, 0.9], [0.8, 0.8], [0.2, 0.2]], targets, TAGS)
    candidate = evaluation([[0.1, 0.1], [0.9, 0.9], [0.2, 0.8], [0.8, 0.2]], targets, TAGS)
    found = measure_agreement(candidate, reference, labelled=True)
    assert (found.metric, found.values[1]) == ("map", 1.0)
    assert found.drop > 0.2
    assert found.different[0].reference == "sun"


def test_labels_that_give_the_metric_no_value_are_unknown_labels() -> None:
    """Average precision needs images with a label and images without it."""
    reference = evaluation([[0.9, 0.1], [0.1, 0.9]], [[1, 0], [1, 0]], TAGS)
    candidate = evaluation([[0.1, 0.1], [0.1, 0.9]], [[1, 0], [1, 0]], TAGS)
    found = measure_agreement(candidate, reference, labelled=True)
    assert (found.metric, found.agreeing) == (None, 1)
    (check,) = (each for each in check_agreement(found, GateLimits().of_precision("int8")))
    assert (check.name, check.passed, check.value) == ("accuracy_drop", False, 0.5)


def test_without_labels_there_is_no_metric() -> None:
    reference = evaluation([[0.8, 0.1, 0.1]], [-1])
    found = measure_agreement(reference, reference, labelled=False)
    assert (found.metric, found.agreeing) == (None, 1)
    assert "candidate" not in found.to_dict()


def test_probabilities_that_are_not_finite_are_counted_by_image() -> None:
    probabilities = np.array([[np.nan, np.nan, 0], [1, 0, 0], [np.inf, 0, 0]], np.float32)
    assert count_non_finite(probabilities) == 2
    assert np.isfinite(finite(probabilities)).all()


def test_models_that_cannot_be_compared_are_named() -> None:
    assert find_label_problem(SPEC, SPEC) is None
    assert find_label_problem(TAGS, SPEC) == "the candidate is multilabel, its reference is multiclass"
    other = make_spec(["cat", "dog", "emu"])
    assert find_label_problem(other, SPEC) == "the candidate and its reference have other labels: emu, fox"
