"""Contact sheets of training images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import RecipeError
from tamiz_train.data import load_data
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data
from tamiz_train.samples import plot_samples


def read_png(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_samples_are_shown_augmented(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    data = load_run_data(trained)
    plain = plot_samples(data.train, data.labels, tiny_recipe("augmentation=none"), count=4)
    assert plain != plot_samples(data.train, data.labels, tiny_recipe(), count=4)


def test_a_sample_on_which_the_augmentation_fails_is_named_or_shown_as_such(
    root: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    cv2.imwrite(str(root / "train" / "cat" / "2.png"), np.zeros((4, 4), np.uint8))
    options = [f"data.root={root}", "augmentation=[{RandomCrop: {height: 6, width: 6}}, {Resize: {}}]"]
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
