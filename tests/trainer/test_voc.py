from __future__ import annotations

from pathlib import Path

import pytest
from datasets_on_disk import write_voc

from tamiz import RecipeError
from tamiz_train.data import load_data
from tamiz_train.recipe import VocData

SETS = {
    "train": {"000001": ["dog", "person", "dog"], "000002": ["cat"], "000003": ["?dog"]},
    "val": {"000004": ["person"]},
    "test": {"000005": ["cat", "dog"]},
}


def test_an_image_has_the_labels_of_its_objects(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007", SETS)
    data = load_data(VocData(kind="voc", root=root), seed=0)
    assert (data.task, data.labels) == ("multilabel", ("cat", "dog", "person"))
    assert data.train.targets.tolist() == [[0, 1, 1], [1, 0, 0], [0, 1, 0]]
    assert data.validation.images == [root / "JPEGImages" / "000004.jpg"]
    assert data.test.targets.tolist() == [[1, 1, 0]]
    without = load_data(VocData(kind="voc", root=root, difficult=False), seed=0)
    assert without.train.targets.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_only_line_ends_separate_the_names_of_images(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "VOC2007", {**SETS, "train": {"0\u20281": ["dog"], "000002": ["cat"]}})
    lists = root / "ImageSets" / "Main" / "train.txt"
    lists.write_text("0\u20281  1\n000002\t-1\n")
    data = load_data(VocData(kind="voc", root=root), seed=0)
    assert [path.name for path in data.train.images] == ["0\u20281.jpg", "000002.jpg"]


def test_missing_splits_are_drawn(tmp_path: Path) -> None:
    images = {f"{index:06}": ["cat" if index % 2 else "dog"] for index in range(20)}
    root = write_voc(tmp_path, {"trainval": images, "val": dict(list(images.items())[:5])})
    data = load_data(VocData(kind="voc", root=root, test_fraction=0.2), seed=0)
    assert [len(split) for split in data.splits] == [12, 5, 3]
    assert len({path for split in data.splits for path in split.images}) == 20


def test_a_damaged_layout_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.root: .*ImageSets/Main has no train.txt"):
        load_data(VocData(kind="voc", root=tmp_path), seed=0)
    root = write_voc(tmp_path, SETS)
    (root / "Annotations" / "000001.xml").unlink()
    (root / "Annotations" / "000002.xml").write_text("<annotation>")
    (root / "Annotations" / "000003.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(RecipeError) as caught:
        load_data(VocData(kind="voc", root=root), seed=0)
    for part in ("000001.xml: No such file", "000002.xml: not XML", "000003.xml: an object has no name"):
        assert part in str(caught.value)
    (root / "ImageSets" / "Main" / "train.txt").write_text("../../etc/passwd\n")
    with pytest.raises(RecipeError, match="is not the name of an image"):
        load_data(VocData(kind="voc", root=root), seed=0)


def test_an_entity_expansion_attack_is_a_recipe_error(tmp_path: Path) -> None:
    root = write_voc(tmp_path, SETS)
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "dog">{entities}]><annotation><object><name>&a11;</name></object></annotation>'
    (root / "Annotations" / "000001.xml").write_text(bomb)
    with pytest.raises(RecipeError, match=r"000001.xml: not XML: .*amplification"):
        load_data(VocData(kind="voc", root=root), seed=0)
