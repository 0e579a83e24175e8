"""Images with their labels, from folders and from the splits of runs."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from datasets_on_disk import write_images
from graphs import make_spec

from tamiz import UsageError
from tamiz_train.data import Split
from tamiz_train.data.content import content_hashes
from tamiz_train.labelled_images import LabelledImages, from_split, merge, read_labelled_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, count in (("cat", 2), ("dog", 3)):
        write_images(tmp_path / "animals" / label, count)
    return tmp_path / "animals"


def test_the_images_of_a_folder_have_the_names_of_its_folders_as_labels(folder: Path) -> None:
    write_images(folder / "dog" / "small", 1)
    (folder / "dog" / "notes.txt").write_text("")
    (folder / "dog" / "._0.png").write_text("")
    shutil.copy(folder / "dog" / "0.png", folder / "stray.png")
    images = read_labelled_folder(folder)
    assert images.name == "animals"
    assert images.label_counts() == {"cat": 2, "dog": 4}
    assert {path.parent.name for path in images.images} == {"cat", "dog", "small"}
    assert images.left_out == {
        ".txt files": 1,
        "hidden files and folders": 1,
        "images outside the label folders": 1,
    }


def test_a_folder_without_labelled_images_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--images .*none: no such folder; give a folder with one folder per label"):
        read_labelled_folder(tmp_path / "none")
    write_images(tmp_path / "flat", 2)
    with pytest.raises(UsageError, match="no images in label folders; put the images of each label into a folder"):
        read_labelled_folder(tmp_path / "flat")
    (tmp_path / "flat" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UsageError, match="the name 'caf\ufffd' is not UTF-8; rename the folder"):
        read_labelled_folder(tmp_path / "flat")


def test_two_forms_of_one_text_are_one_label(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "caf\u00e9", 1)
    write_images(tmp_path / "data" / "cafe\u0301", 2)
    assert read_labelled_folder(tmp_path / "data").label_counts() == {"caf\u00e9": 3}


def test_the_targets_are_the_indices_of_the_labels_of_a_model(folder: Path) -> None:
    images = read_labelled_folder(folder)
    assert images.to_split(make_spec(["dog", "cat"])).targets.tolist() == [1, 1, 0, 0, 0]
    assert images.to_split(make_spec(["owl", "cat"])).targets.tolist() == [1, 1, -1, -1, -1]
    several = make_spec(["dog", "cat"], task="multilabel", thresholds=(0.5, 0.5))
    assert images.to_split(several).targets.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]]


def test_labels_that_a_model_does_not_have_are_named_with_their_images(folder: Path) -> None:
    images = read_labelled_folder(folder)
    images.require_labels(["cat", "dog", "owl"], "digits does not have")
    with pytest.raises(
        UsageError, match=r"animals: digits does not have the labels dog \(3 images\); did you mean 'dogs'\?; rename"
    ):
        images.require_labels(["cat", "dogs"], "digits does not have")


def test_images_with_several_labels_cannot_measure_a_multiclass_model() -> None:
    split = Split("test", np.zeros((2, 8, 8), np.uint8), np.array([[1, 1], [0, 0]], np.float32))
    images = from_split(split, ["a", "b"])
    assert images.labels == [("a", "b"), ()]
    with pytest.raises(UsageError, match="cannot measure a multiclass model"):
        images.to_split(make_spec(["a", "b"]))


def test_an_image_of_several_parts_is_taken_once(folder: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    images = merge([read_labelled_folder(folder), read_labelled_folder(copied)])
    # The grey level of an image is its index, so that cat/0.png and dog/0.png are the same too.
    assert [path.name for path in images.images] == ["0.png", "1.png", "2.png"]
    assert images.name == "animals and copy"


def test_images_are_recognised_by_their_content(folder: Path, tmp_path: Path) -> None:
    images = read_labelled_folder(folder)
    moved = Path(shutil.copy(folder / "dog" / "2.png", tmp_path / "other-name.png"))
    missing, pixels = tmp_path / "missing.png", np.zeros((8, 8), np.uint8)
    hashes = content_hashes([moved, missing, pixels, pixels + 1])
    assert len(set(hashes)) == 4
    assert hashes[1] == b""
    assert images.among(frozenset(hashes)) == [False, False, False, False, True]
    assert LabelledImages("x", [missing], [("a",)]).among(frozenset()) == [False]


def test_chosen_images_keep_what_was_left_out(folder: Path) -> None:
    (folder / "x.txt").write_text("")
    chosen = read_labelled_folder(folder).take([4, 0])
    assert [(path.name, labels) for path, labels in zip(chosen.images, chosen.labels, strict=True)] == [
        ("2.png", ("dog",)),
        ("0.png", ("cat",)),
    ]
    assert chosen.left_out == Counter({".txt files": 1})
