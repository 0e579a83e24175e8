"""Finding the images of a recipe and dividing them into splits: image folders, and data sets of torchvision."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets_on_disk import write_idx, write_images

from tamiz import Preprocessing, RecipeError
from tamiz.bulk.inputs import find_images
from tamiz_train.data import Data, load_data
from tamiz_train.data.loader import create_loader
from tamiz_train.recipe import CsvData, FolderData, TorchvisionData, VocData


def load(root: Path, **settings: object) -> Data:
    return load_data(FolderData(kind="folder", root=root, **settings), seed=0)


def test_folders_named_after_the_splits_are_the_splits(root: Path) -> None:
    data = load_data(FolderData(kind="folder", root=root), seed=0)
    assert data.labels == ("cat", "dog")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [40, 8, 10]
    assert {path.parent.name for path in data.test.images[:5]} == {"cat"}
    assert data.test.targets.tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("name", ["validation", "valid", "val", "Val"])
def test_a_validation_folder_may_have_any_of_its_usual_names(root: Path, name: str) -> None:
    (root / "validation").rename(root / name)
    (root / "train").rename(root / "Train")
    assert [len(split) for split in load(root).splits] == [40, 8, 10]


def test_training_finds_the_images_that_classification_finds(root: Path, tmp_path: Path) -> None:
    """Links to folders and every usual suffix are followed; copies that programs make are left out."""
    write_images(tmp_path / "elsewhere", 3)
    (root / "train" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "cat" / "back").symlink_to(root)
    (root / "train" / "dog" / "0.png").rename(root / "train" / "dog" / "0.JFIF")
    for name in ("cat/.ipynb_checkpoints/0-checkpoint.png", "cat/._1.png", "__MACOSX/0.png", ".git/0.png"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / "train" / "cat" / "1.png", root / "train" / name)
    (root / "train" / "notes.txt").write_text("")
    shutil.copy(root / "train" / "cat" / "1.png", root / "train" / "loose.png")
    (root / "README").write_text("")
    data = load(root)
    left_out = Counter[str]()
    found = [path for path in find_images([root], left_out) if path.name != "loose.png"]
    assert sorted(path for split in data.splits for path in split.images) == sorted(found)
    assert (data.labels, len(data.train)) == (("cat", "dog"), 43)
    assert data.left_out == left_out + Counter({"images outside the class folders": 1})
    assert data.left_out == {
        "hidden files and folders": 3,
        "folders of operating systems": 1,
        "links to a folder that contains them": 1,
        ".txt files": 1,
        "files with other names": 1,
        "images outside the class folders": 1,
    }


def test_a_folder_beside_train_that_is_no_split_is_refused(root: Path) -> None:
    write_images(root / "holdout" / "cat", 1)
    with pytest.raises(
        RecipeError, match=r"folders beside train that are no split: holdout; the splits are train, val"
    ):
        load(root)


def test_two_folders_of_one_split_are_refused(root: Path) -> None:
    write_images(root / "val" / "cat", 1)
    with pytest.raises(RecipeError, match="several folders for validation: val, validation; keep one of them"):
        load(root)


@pytest.mark.parametrize("names", [["cat", "dog", "val"], ["training", "testing"]])
def test_class_folders_that_are_named_like_splits_are_refused(names: list[str], tmp_path: Path) -> None:
    for name in names:
        write_images(tmp_path / name, 10)
    with pytest.raises(RecipeError, match=r"named like splits: .*; name the folder of the training images train; if"):
        load(tmp_path)


def test_a_split_folder_in_a_split_folder_is_refused(root: Path) -> None:
    write_images(root / "train" / "val" / "cat", 3)
    with pytest.raises(
        RecipeError, match="train has class folders that are named like splits: val; splits are folders"
    ):
        load(root)


def test_class_folders_that_look_the_same_are_one_label(root: Path) -> None:
    write_images(root / "train" / "caf\u00e9", 2)
    write_images(root / "train" / "cafe\u0301", 3)
    write_images(root / "test" / "cafe\u0301", 1)
    data = load(root)
    assert data.labels == ("caf\u00e9", "cat", "dog")
    assert (data.train.counts(3).tolist(), data.test.counts(3).tolist()) == ([5, 20, 20], [1, 5, 5])


def test_a_class_folder_whose_name_is_not_utf_8_is_a_recipe_error(root: Path) -> None:
    write_images(root / "train" / "cow", 2)
    (root / "train" / "cow").rename(os.fsdecode(os.fsencode(root) + b"/train/\xff"))
    with pytest.raises(RecipeError, match=r"class folder in .*train: the name .* is not UTF-8; rename it") as caught:
        load(root)
    str(caught.value).encode()


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
    with pytest.raises(RecipeError, match="has 0 class folders; two or more are needed"):
        load_data(FolderData(kind="folder", root=tmp_path / "empty"), seed=0)
    (root / "train" / "cow").mkdir()
    (root / "test" / "horse").mkdir()
    with pytest.raises(RecipeError) as caught:
        load_data(FolderData(kind="folder", root=root), seed=0)
    assert "test has class folders that train does not have: horse" in str(caught.value)
    (root / "test" / "horse").rmdir()
    with pytest.raises(RecipeError, match="train without images: cow; remove them, or add images"):
        load_data(FolderData(kind="folder", root=root), seed=0)


def test_a_missing_folder_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = rf"photos \({tmp_path}/photos\)"
    with pytest.raises(RecipeError, match=rf"data.root: there is no folder {found}; set data.root to"):
        load_data(FolderData(kind="folder", root=Path("photos")), seed=0)
    with pytest.raises(RecipeError, match=rf"there is no folder {tmp_path}/photos; set data.root to"):
        load_data(FolderData(kind="folder", root=tmp_path / "photos"), seed=0)
    with pytest.raises(RecipeError, match=rf"photos/labels.csv \({tmp_path}/photos/labels.csv\): No such file"):
        load_data(CsvData(kind="csv", root=Path("photos")), seed=0)
    with pytest.raises(RecipeError, match=rf"there is no folder {found}; set data.root to"):
        load_data(VocData(kind="voc", root=Path("photos")), seed=0)


def test_the_missing_digits_are_named_with_the_command_that_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"; to write the digits there: python -m tamiz_train.digits data/digits$"):
        load_data(FolderData(kind="folder", root=Path("data/digits")), seed=0)


def test_the_folder_of_one_label_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "photos" / "dress", 3)
    message = "dress has images, but no class folders: put the images of each label into a folder of its own"
    with pytest.raises(RecipeError, match=message + "$"):
        load_data(FolderData(kind="folder", root=tmp_path / "photos" / "dress"), seed=0)
    write_images(tmp_path / "photos" / "hat", 3)
    with pytest.raises(RecipeError, match=rf"{message}; or did you mean {tmp_path}/photos\?"):
        load_data(FolderData(kind="folder", root=tmp_path / "photos" / "dress"), seed=0)
    monkeypatch.chdir(tmp_path / "photos" / "dress")
    with pytest.raises(RecipeError, match=rf"or did you mean {tmp_path}/photos\?"):
        load_data(FolderData(kind="folder", root=Path()), seed=0)


def test_a_torchvision_data_set_on_disk_is_not_downloaded(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    write_idx(tmp_path / "FashionMNIST", images, (np.arange(300) % 10).astype(np.uint8), train=200)
    preprocessing = Preprocessing(height=8, width=8, colour="L")
    settings = TorchvisionData(kind="torchvision", name="FashionMNIST", root=tmp_path, validation_fraction=0.1)
    data = load_data(settings, seed=0)
    assert data.labels[0] == "T-shirt/top"
    assert (len(data.train) + len(data.validation), len(data.test)) == (200, 100)
    assert 10 < len(data.validation) < 40
    assert next(iter(create_loader(data.train, preprocessing, batch_size=4))).images.shape == (4, 8, 8, 1)


def test_a_torchvision_data_set_that_cannot_be_downloaded_is_a_recipe_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settings = TorchvisionData(kind="torchvision", name="MNIST", root=tmp_path)
    with pytest.raises(RecipeError, match="data.root: MNIST is not in .* and cannot be downloaded"):
        load_data(settings, seed=0)
