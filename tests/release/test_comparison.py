"""Comparison of two models on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import make_spec

from tamiz import ModelSpec, RunError
from tamiz_release.comparison import Comparison, Difference, LabelComparison
from tamiz_train.evaluation import Evaluation
from tamiz_train.labelled_images import LabelledImages

CLASSES = make_spec(["cat", "dog", "owl"])
SEVERAL = make_spec(["a", "b"], task="multilabel", thresholds=(0.5, 0.5))


def images_of(labels: list[str | tuple[str, ...]]) -> LabelledImages:
    named = [(label,) if isinstance(label, str) else label for label in labels]
    return LabelledImages("test", [Path(f"{index}.png") for index in range(len(labels))], named)


def predicting(
    images: LabelledImages,
    predicted: list[str | tuple[str, ...]],
    spec: ModelSpec = CLASSES,
    missing: int | None = None,
) -> Evaluation:
    """An evaluation in which the model predicts these labels with certainty."""
    indices = np.array([index for index in range(len(images)) if index != missing], np.int64)
    named = [each if isinstance(each, tuple) else (each,) for each in predicted]
    rows = [[float(label in labels) for label in spec.labels] for labels in named]
    return Evaluation(images.to_split(spec), spec, np.array(rows, np.float32)[indices], indices, ())


def test_the_better_model_has_more_right_on_the_images_where_the_two_differ() -> None:
    images = images_of(["cat"] * 100)
    first = predicting(images, ["cat"] * 80 + ["dog"] * 20)
    second = predicting(images, ["cat"] * 98 + ["owl"] * 2)
    compared = Comparison(images, first, second)
    assert compared.table == (80, 0, 18, 2)
    assert compared.values == (0.8, 0.98)
    assert compared.difference == pytest.approx(0.18)
    assert compared.better == "second"
    assert compared.p_value < 1e-4
    assert Comparison(images, second, first).better == "first"


def test_a_few_images_do_not_decide_which_model_is_better() -> None:
    images = images_of(["cat"] * 20)
    compared = Comparison(
        images, predicting(images, ["cat"] * 18 + ["dog"] * 2), predicting(images, ["cat"] * 19 + ["dog"])
    )
    assert compared.better is None
    low, high = compared.interval
    assert low < 0 < compared.difference < high
    same = Comparison(images, compared.first, compared.first)
    assert (same.better, same.p_value, same.differences) == (None, 1.0, [])
    # Equal models on 20 images are not known to be equal.
    assert same.interval[0] < -0.05 < 0.05 < same.interval[1]


def test_the_images_with_other_predictions_are_listed() -> None:
    images = images_of(["cat", "cat", "dog", "owl"])
    first = predicting(images, ["cat", "dog", "dog", "cat"])
    second = predicting(images, ["cat", "cat", "owl", "dog"])
    assert Comparison(images, first, second).differences == [
        Difference("2.png", "dog", "dog", "owl", "first"),
        Difference("1.png", "cat", "dog", "cat", "second"),
        Difference("3.png", "owl", "cat", "dog", "neither"),
    ]


def test_images_of_a_label_that_a_model_lacks_are_wrong_for_it() -> None:
    images = images_of(["dog", "cat", "owl"])
    older = make_spec(["dog", "cat"])
    compared = Comparison(
        images, predicting(images, ["dog", "cat", "dog"], older), predicting(images, ["dog", "cat", "owl"])
    )
    assert compared.values == (pytest.approx(2 / 3), 1.0)
    assert compared.labels == [
        LabelComparison("cat", 1, 1, 1),
        LabelComparison("dog", 1, 1, 1),
        LabelComparison("owl", 1, 0, 1),
    ]


def test_only_images_that_both_models_read_are_compared() -> None:
    images = images_of(["cat", "dog", "owl"])
    right = ["cat", "dog", "owl"]
    second = predicting(images, ["cat", "dog", "cat"], missing=1)
    compared = Comparison(images, predicting(images, right, missing=0), second)
    assert (compared.count, compared.values) == (1, (1.0, 0.0))
    nothing = images_of(["cat"])
    with pytest.raises(RunError, match="no image could be read by both models"):
        Comparison(nothing, predicting(nothing, ["cat"], missing=0), predicting(nothing, ["cat"]))


def test_multilabel_models_are_compared_by_macro_f1() -> None:
    labels = [("a",), ("b",), ("a", "b"), ()] * 25
    images = images_of(labels)
    first = predicting(images, [*labels[:80], *[("a",)] * 20], SEVERAL)
    second = predicting(images, labels, SEVERAL)
    compared = Comparison(images, first, second)
    assert compared.values == (pytest.approx(first.metrics["f1_macro"]), 1.0)
    low, high = compared.interval
    assert 0 < low < compared.difference < high
    assert compared.table == (85, 0, 15, 0)
    assert compared.differences[0] == Difference("81.png", "b", "a", "b", "second")
    assert compared.labels == [LabelComparison("a", 50, 50, 50), LabelComparison("b", 50, 40, 50)]
    document = compared.to_dict()
    assert (document["metric"], document["better"], len(document["differences"])) == ("f1_macro", "second", 15)


def test_models_of_other_tasks_or_labels_cannot_be_compared() -> None:
    images = images_of(["cat"])
    several = predicting(images, [("a",)], SEVERAL)
    with pytest.raises(RunError, match="the first is multiclass, the second is multilabel"):
        Comparison(images, predicting(images, ["cat"]), several)
    other = predicting(images, [("b",)], make_spec(["b", "a"], task="multilabel", thresholds=(0.5, 0.5)))
    with pytest.raises(RunError, match="must have the same labels in one order"):
        Comparison(images, several, other)
