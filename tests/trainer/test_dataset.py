"""Finding the images of a recipe and dividing them into splits: image folders, and data sets of torchvision."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets_on_disk import write_idx, write_images

from tamiz import Preprocessing, RecipeError
from tamiz_train.data import load_data
from tamiz_train.data.loader import create_loader
from tamiz_train.recipe import FolderData, TorchvisionData


def test_folders_named_after_the_splits_are_the_splits(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root), seed=0)
    assert data.labels == ("cat", "dog")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [40, 8, 10]
    assert {path.parent.name for path in data.test.images[:5]} == {"cat"}
    assert data.test.targets.tolist() == [0] * 5 + [1] * 5


def test_without_split_folders_a_fraction_of_each_class_is_drawn_by_the_seed(tmp_path: Path) -> None:
    for label, count in (("a", 100), ("b", 50)):
        write_images(tmp_path / label, count)
    data = load_data(FolderData(kind="folder", root=tmp_path, validation_fraction=0.1, test_fraction=0.2), seed=1)
    splits = (data.train, data.validation, data.test)
    assert [Counter(split.targets.tolist()) for split in splits] == [
        {0: 72, 1: 36},
        {0: 8, 1: 4},
        {0: 20, 1: 10},
    ]
    paths = [path for split in splits for path in split.images]
    assert len(set(paths)) == len(paths) == 150
    again = load_data(FolderData(kind="folder", root=tmp_path, validation_fraction=0.1, test_fraction=0.2), seed=1)
    assert again.test.images == data.test.images
    other = load_data(FolderData(kind="folder", root=tmp_path, validation_fraction=0.1, test_fraction=0.2), seed=2)
    assert other.test.images != data.test.images


def test_integer_labels_are_ordered_by_value(tmp_path: Path) -> None:
    for label in ("10", "9", "0", "other"):
        write_images(tmp_path / label, 10)
    assert load_data(FolderData(kind="folder", root=tmp_path), seed=0).labels == ("0", "9", "10", "other")


def test_a_subset_is_drawn_from_the_training_images_only(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root, subset_size=7), seed=0)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [7, 8, 10]
    with pytest.raises(RecipeError, match="subset_size: 41 is more than the 40 training images"):
        load_data(FolderData(kind="folder", root=root, subset_size=41), seed=0)


def test_missing_and_inconsistent_folders_are_recipe_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no folder"):
        load_data(FolderData(kind="folder", root=tmp_path / "none"), seed=0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="has 0 class folders"):
        load_data(FolderData(kind="folder", root=tmp_path / "empty"), seed=0)
    (root / "train" / "cow").mkdir()
    (root / "test" / "horse").mkdir()
    with pytest.raises(RecipeError) as caught:
        load_data(FolderData(kind="folder", root=root), seed=0)
    assert "class folder" in str(caught.value)
    assert "cow contains no images" in str(caught.value)
    assert "test has class folders that train does not have: horse" in str(caught.value)


def test_too_few_images_to_draw_a_split_are_a_recipe_error(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 1)
    with pytest.raises(RecipeError, match="too few to split off test"):
        load_data(FolderData(kind="folder", root=tmp_path), seed=0)


def test_a_torchvision_data_set_on_disk_is_not_downloaded(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    write_idx(tmp_path / "FashionMNIST", images, (np.arange(300) % 10).astype(np.uint8), train=200)
    preprocessing = Preprocessing(height=8, width=8, colour="L")
    settings = TorchvisionData(kind="torchvision", name="FashionMNIST", root=tmp_path, validation_fraction=0.1)
    data = load_data(settings, seed=0)
    assert data.labels[0] == "T-shirt/top"
    assert [len(split) for split in (data.train, data.validation, data.test)] == [180, 20, 100]
    assert next(iter(create_loader(data.train, preprocessing, batch_size=4))).images.shape == (4, 8, 8, 1)


def test_a_torchvision_data_set_that_cannot_be_downloaded_is_a_recipe_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settings = TorchvisionData(kind="torchvision", name="MNIST", root=tmp_path)
    with pytest.raises(RecipeError, match="data.root: MNIST is not in .* and cannot be downloaded"):
        load_data(settings, seed=0)
