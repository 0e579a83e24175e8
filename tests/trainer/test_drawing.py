"""Splits that are drawn: they stay when the data grows, and each class is in each of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import RecipeError
from tamiz_train.data import SPLITS, Data, Split, load_data
from tamiz_train.data.drawing import draw_split
from tamiz_train.recipe import CsvData, FolderData


def write_class(folder: Path, count: int, seed: int) -> None:
    """Write images that differ from those of every other seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(np.random.default_rng(seed).integers(0, 256, (count, 4, 4), np.uint8)):
        cv2.imwrite(str(folder / f"{seed}-{number}.png"), pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 60 images."""
    for seed, label in enumerate(("a", "b", "c")):
        write_class(tmp_path / "data" / label, 60, seed)
    return tmp_path / "data"


def load(folder: Path, seed: int = 0, **options: object) -> Data:
    return load_data(FolderData(kind="folder", root=folder, **options), seed)


def splits(data: Data) -> dict[str, str]:
    """The split of each image by its name."""
    return {path.name: split.name for split in data.splits for path in split.images}


def test_the_fractions_of_each_class_are_drawn_on_average(folder: Path) -> None:
    counts = [load(folder, seed, test_fraction=0.25, validation_fraction=0.2).test.counts(3) for seed in range(40)]
    assert np.mean(counts, axis=0) == pytest.approx([15, 15, 15], abs=2)
    counts = [
        load(folder, seed, test_fraction=0.25, validation_fraction=0.2).validation.counts(3) for seed in range(40)
    ]
    assert np.mean(counts, axis=0) == pytest.approx([9, 9, 9], abs=2)


def test_each_image_is_in_one_split_that_the_seed_decides(folder: Path) -> None:
    first = splits(load(folder))
    assert len(first) == 180
    assert splits(load(folder)) == first
    assert splits(load(folder, seed=1)) != first


def test_the_images_of_a_split_keep_the_order_of_the_data(folder: Path) -> None:
    for split in load(folder).splits:
        assert split.images == sorted(split.images)


def test_an_image_stays_in_its_split_when_a_class_is_added(folder: Path) -> None:
    before = splits(load(folder))
    write_class(folder / "aa", 60, seed=7)
    after = splits(load(folder))
    assert len(after) == 240
    assert before.items() <= after.items()


def test_an_image_stays_in_its_split_when_images_are_added_removed_and_moved(folder: Path) -> None:
    before = splits(load(folder))
    write_class(folder / "a", 60, seed=7)
    for path in sorted((folder / "b").iterdir())[:20]:
        path.unlink()
    (folder / "c").rename(folder / "another name")
    after = splits(load(folder))
    assert len(after) == 220
    assert all(after[name] == split for name, split in before.items() if name in after)


def test_copies_of_an_image_are_in_one_split(folder: Path) -> None:
    for path in sorted(folder.rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    after = splits(load(folder))
    assert all(after[f"copy-{name}"] == split for name, split in after.items() if not name.startswith("copy-"))


@pytest.mark.parametrize("count", [3, 4, 8])
@pytest.mark.parametrize("validation_from", ["train", "test"])
def test_a_small_class_is_in_each_split(count: int, validation_from: str, tmp_path: Path) -> None:
    for seed in range(12):
        write_class(tmp_path / f"{seed:02}", count, seed)
    data = load(tmp_path, validation_from=validation_from)
    for split in data.splits:
        assert split.counts(12).min() >= 1


def test_at_most_one_image_of_a_growing_small_class_changes_between_two_splits(tmp_path: Path) -> None:
    for seed in range(20):
        write_class(tmp_path / str(seed), 4, seed)
    before = splits(load(tmp_path))
    for seed in range(20):
        write_class(tmp_path / str(seed), 8, seed + 100)
    after = splits(load(tmp_path))
    from_test = [name for name, split in before.items() if split == "test" and after[name] != "test"]
    classes = [name.partition("-")[0] for name in from_test]
    assert len(set(classes)) == len(classes)


def test_a_class_with_too_few_images_is_named_with_its_count(folder: Path) -> None:
    write_class(folder / "d", 2, seed=7)
    shutil.copy(folder / "d" / "7-0.png", folder / "d" / "copy.png")
    with pytest.raises(
        RecipeError,
        match=r"too few images to draw test images from: label d has 2; 3 or more different images of a label",
    ):
        load(folder)


def test_a_class_with_too_few_images_for_validation_is_named_with_its_count(folder: Path) -> None:
    for label in ("a", "b"):
        (folder / "train").mkdir(exist_ok=True)
        (folder / label).rename(folder / "train" / label)
    (folder / "c").rename(folder.parent / "c")
    write_class(folder / "test" / "a", 3, seed=8)
    write_class(folder / "train" / "d", 1, seed=7)
    with pytest.raises(
        RecipeError, match=r"draw validation images from: label d has 1; 2 or more different images of a label"
    ):
        load(folder)


def test_given_training_and_validation_images_are_kept_without_a_test(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "both" / "train")
    for seed, label in enumerate(("a", "b", "c")):
        write_class(folder.parent / "both" / "val" / label, 5, seed + 10)
    data = load(folder.parent / "both")
    assert [len(split) for split in data.splits] == [180, 15, 0]
    assert data.drawn == frozenset()
    asked = load(folder.parent / "both", test_fraction=0.2)
    assert len(asked.test) > 10
    assert len(asked.validation) == 15


def test_a_given_test_is_fixed(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "both" / "train")
    write_class(folder.parent / "both" / "test" / "a", 5, seed=10)
    before = load(folder.parent / "both")
    write_class(folder.parent / "both" / "train" / "a", 50, seed=11)
    after = load(folder.parent / "both")
    assert after.test.images == before.test.images
    assert splits(before).items() <= splits(after).items()


def test_the_splits_of_a_manifest_stay_when_rows_are_added(folder: Path) -> None:
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))

    def read(count: int) -> dict[str, str]:
        lines = [f"{path},{path.parent}\n" for path in paths[::-1][:count]]
        (folder / "labels.csv").write_text("path,label\n" + "".join(lines))
        return splits(load_data(CsvData(kind="csv", root=folder), seed=0))

    assert read(100).items() <= read(180).items()


def test_pixels_and_several_labels_are_drawn_by_content() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 4, 4), np.uint8)
    targets = np.zeros((200, 3), np.float32)
    rest, drawn = draw_split(Split("train", pixels[:100], targets[:100]), "abc", 0.3, "test", 0)
    more, others = draw_split(Split("train", pixels, targets), "abc", 0.3, "test", 0)
    assert len(rest) + len(drawn) == 100
    assert len(more) + len(others) == 200
    assert np.array_equal(others.images[: len(drawn)], drawn.images)


def test_files_that_cannot_be_read_are_drawn_by_their_names(folder: Path) -> None:
    rows = [f"{path.relative_to(folder)},{path.parent.name}\n" for path in sorted(folder.rglob("*.png"))]
    missing = [f"a/missing {number}.png,a\n" for number in range(40)]
    (folder / "labels.csv").write_text("path,label\n" + "".join(rows + missing))
    data = load_data(CsvData(kind="csv", root=folder, on_unreadable="skip"), seed=0)
    assert {split for name, split in splits(data).items() if name.startswith("missing")} == set(SPLITS)
