"""Plots of evaluations and contact sheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from graphs import make_spec

from tamiz import RecipeError
from tamiz_train.data import Split, load_data
from tamiz_train.evaluation import Evaluation, load_run_data
from tamiz_train.plots import contact_sheet, plot_confusion_matrix, plot_history, plot_samples
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run


def read_png(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_a_contact_sheet_takes_images_of_any_size(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    images = [np.zeros(shape, np.uint8) for shape in ((5, 9), (200, 30, 3), (28, 28, 1))]
    assert read_png(contact_sheet(images, [["a"], ["b $x$", "c"], ["c" * 99]])).shape[1] > 3 * 100


def test_samples_are_shown_augmented(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    data = load_run_data(trained)
    plain = plot_samples(data.train, data.labels, tiny_recipe("augmentation=none"), count=4)
    assert plain != plot_samples(data.train, data.labels, tiny_recipe(), count=4)


def test_a_sample_on_which_the_augmentation_fails_is_named_or_shown_as_such(
    root: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    cv2.imwrite(str(root / "train" / "cat" / "2.png"), np.zeros((4, 4), np.uint8))
    options = [f"data.root={root}", "augmentation=[{RandomCrop: {height: 6, width: 6}}]"]
    recipe = tiny_recipe(*options)
    data = load_data(recipe.data, 0)
    with pytest.raises(RecipeError, match=r"train/cat/2\.png: augmentation: fails on an image of \[4, 4\]"):
        plot_samples(data.train, data.labels, recipe, count=40)
    skipping = tiny_recipe(*options, "data.on_unreadable=skip")
    assert read_png(plot_samples(data.train, data.labels, skipping, count=40)).shape[1] > 100
    too_large = tiny_recipe(
        f"data.root={root}", "data.on_unreadable=skip", "augmentation=[{RandomCrop: {height: 60, width: 60}}]"
    )
    with pytest.raises(RecipeError, match="augmentation: fails on an image"):
        plot_samples(data.train, data.labels, too_large, count=4)


def test_the_confusion_matrix_of_a_multilabel_model_is_plotted_by_label() -> None:
    spec = make_spec(["a", "b"], task="multilabel", thresholds=(0.5, 0.5))
    targets = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    split = Split("test", np.zeros((3, 28, 28), np.uint8), targets)
    evaluation = Evaluation(split, spec, np.array([[1, 1], [0, 1], [0, 0]], np.float32), np.arange(3), ())
    assert read_png(plot_confusion_matrix(evaluation)).shape[1] == 800


def test_the_training_is_plotted_also_where_a_value_is_missing() -> None:
    epochs = [
        {"epoch": 1, "train_loss": 1.0, "validation_loss": None, "lr": 0.1},
        {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.75, "lr": 0.05},
        {"epoch": 3, "train_loss": float("nan"), "validation_loss": 0.5},
    ]
    assert read_png(plot_history(epochs, best_epoch=3)).shape[1] == 900
    assert read_png(plot_history(epochs[:1], best_epoch=1)).shape[1] == 900
