"""Problems of a data set that are found before training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tamiz_train.data import load_data
from tamiz_train.data.check import check_data
from tamiz_train.recipe import Recipe


def test_problems_of_the_data_are_found(digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    first = sorted((root / "train" / "0").iterdir())
    first[0].write_bytes(b"damaged")
    shutil.copy(first[1], root / "train" / "1" / "again.png")
    for path in (root / "test" / "7").iterdir():
        path.unlink()
    found = {finding.what: finding for finding in check_data(load_data(tiny_recipe(f"data.root={root}").data, 0), "L")}
    assert set(found) == {
        "images that cannot be read",
        "images that are in more than one split",
        "images that have two different labels",
        "labels without an image in test",
    }
    assert found["images that cannot be read"].names[0].startswith(str(first[0]))
    assert len(found["images that are in more than one split"].names) == 324
    assert " = " in str(found["images that are in more than one split"])
    assert str(found["images that are in more than one split"]).endswith("and 319 more")
    assert found["labels without an image in test"].names == ("7",)
    assert list(check_data(load_data(tiny_recipe().data, 0), "L")) == []
