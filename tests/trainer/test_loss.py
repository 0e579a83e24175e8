"""The loss of training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tamiz_train.data import load_data
from tamiz_train.loss import create_loss
from tamiz_train.recipe import Recipe


def test_balanced_weights_give_all_classes_the_same_total_weight(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, digits: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    for path in sorted((root / "train" / "3").iterdir())[20:]:
        path.unlink()
    recipe = tiny_recipe(f"data.root={root}", "train.class_weights=balanced", "data.validation_fraction=0.1")
    data = load_data(recipe.data, 0)
    weights = create_loss(recipe.train, data).weight
    products = weights.numpy() * data.train.counts(10)
    np.testing.assert_allclose(products, len(data.train) / 10, rtol=1e-5)
