"""Problems of a data set that are found before training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tamiz import Preprocessing
from tamiz_train.data import load_data
from tamiz_train.data.check import check_data
from tamiz_train.recipe import FolderData, Recipe

GREY = Preprocessing(height=8, width=8, colour="L")


def test_problems_of_the_data_are_found(digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    first = sorted((root / "train" / "0").iterdir())
    first[0].write_bytes(b"damaged")
    shutil.copy(first[1], root / "train" / "1" / "again.png")
    for path in (root / "test" / "7").iterdir():
        path.unlink()
    found = {finding.what: finding for finding in check_data(load_data(tiny_recipe(f"data.root={root}").data, 0), GREY)}
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
    assert list(check_data(load_data(tiny_recipe().data, 0), GREY)) == []


def test_images_of_almost_one_value_are_a_warning(root: Path) -> None:
    """A 16-bit image with values of 0 to 239 becomes black, because its upper 8 bits are all zero."""
    random = np.random.default_rng(0)
    for path in root.rglob("*.png"):
        cv2.imwrite(str(path), random.integers(0, 256, (8, 8), np.uint8))
    dark, page = root / "train" / "cat" / "1.png", root / "train" / "cat" / "2.png"
    cv2.imwrite(str(dark), random.integers(0, 240, (8, 8), np.uint16))
    cv2.imwrite(str(page), np.pad(np.zeros((1, 1), np.uint8), 9, constant_values=255))
    (finding,) = check_data(load_data(FolderData(kind="folder", root=root), 0), GREY)
    assert finding.severity == "warning"
    assert finding.names == (str(dark),)
    assert str(finding).startswith("warning: 1 image with almost the same value everywhere (16 bits per value are")


def test_copies_with_the_same_label_are_listed_as_information(digits: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    first = sorted((root / "train" / "0").iterdir())[0]
    for name in ("z1.png", "z2.png"):
        shutil.copy(first, first.with_name(name))
    # The same pixels in another file.
    cv2.imwrite(str(first.with_name("z3.bmp")), cv2.imread(str(first)))
    shutil.copytree(root / "test", root / "validation")
    shutil.rmtree(root / "test")
    data = load_data(FolderData(kind="folder", root=root), 0)
    (finding,) = check_data(data, GREY)
    copies = [f"{first.with_name(name)} = {first}" for name in ("z1.png", "z2.png", "z3.bmp")]
    assert (finding.severity, finding.names) == ("note", tuple(copies))
    assert str(finding).startswith(f"note: 3 images equal to another one with the same label: {copies[0]}, ")


def test_one_image_is_counted_in_the_singular(digits: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(digits, tmp_path / "digits"))
    sorted((root / "train" / "0").iterdir())[0].write_bytes(b"damaged")
    (finding,) = check_data(load_data(FolderData(kind="folder", root=root), 0), GREY)
    assert str(finding).startswith("1 image that cannot be read: ")


def test_data_without_test_images_is_no_problem(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "train", tmp_path / "train")
    shutil.copytree(digits / "test", tmp_path / "validation")
    assert list(check_data(load_data(FolderData(kind="folder", root=tmp_path), 0), GREY)) == []
