"""The data of a run: what is recorded of it, and whether it is the same when it is found again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tamiz_train.data import load_data
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.run_data import changed_splits, record_data

MakeRecipe = Callable[..., Recipe]


def test_changed_splits_are_detected(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(f"runs_dir={tmp_path}")
    data = load_data(recipe.data, recipe.train.seed)
    run = Run.create(recipe)
    assert changed_splits(run, data) == set()
    record_data(run, data, recipe.data.root)
    assert changed_splits(run, data) == set()
    smaller = load_data(tiny_recipe("data.subset_size=100").data, recipe.train.seed)
    assert changed_splits(run, smaller) == {"train"}


def test_each_image_is_read_once_to_draw_the_splits_and_to_record_the_data(
    tiny_recipe: MakeRecipe, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[Path] = Counter()
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    # Without given splits, the test images are drawn, then the validation images.
    recipe = tiny_recipe(f"runs_dir={tmp_path}", f"data.root={digits / 'train'}")
    data = load_data(recipe.data, recipe.train.seed)
    assert data.drawn == {"validation", "test"}
    record_data(Run.create(recipe), data, recipe.data.root)
    assert reads == Counter(path for split in data.splits for path in split.images)


def test_a_run_knows_whether_another_one_has_the_same_images_with_the_same_labels(
    tiny_recipe: MakeRecipe, digits: Path, tmp_path: Path
) -> None:
    def contents_of(root: Path) -> dict[str, str]:
        recipe = tiny_recipe(f"runs_dir={tmp_path}", f"data.root={root}")
        run = Run.create(recipe)
        record_data(run, load_data(recipe.data, recipe.train.seed), root)
        return run.contents

    original = contents_of(digits)
    moved = Path(shutil.copytree(digits, tmp_path / "moved"))
    for index, image in enumerate(sorted((moved / "test" / "3").iterdir(), reverse=True)):
        image.rename(image.with_name(f"renamed {index}{image.suffix}"))
    assert contents_of(moved) == original
    image = next((moved / "test" / "3").iterdir())
    image.rename(moved / "test" / "4" / "relabelled.png")
    relabelled = contents_of(moved)
    assert relabelled["test"] != original["test"]
    assert relabelled["train"] == original["train"]
