from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tamiz import RecipeError
from tamiz_train.digits import write_digits

pytestmark = pytest.mark.integration


def test_the_recipe_trains_with_the_given_transforms(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    write_digits(tmp_path / "digits")
    own = example("own_augmentation")
    overrides = [
        f"data.root={tmp_path / 'digits'}",
        f"runs_dir={tmp_path / 'runs'}",
        "tracking.uri=null",
        "train.epochs=1",
    ]
    run = own.train_with(own.AUGMENTATION, *overrides)
    assert list(run.recipe.augmentation) == own.AUGMENTATION
    assert run.metrics["test"]["accuracy"] > 0.2
    with pytest.raises(RecipeError, match="Affine"):
        own.train_with([{"Afine": {}}], *overrides)
