from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import RecipeError
from tamiz_train.data import Data, load_data
from tamiz_train.data.manifest import to_manifest
from tamiz_train.recipe import CsvData


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(40):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((8, 8), index, np.uint8))
    return tmp_path


def load(folder: Path, text: str | bytes, **options: object) -> Data:
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "labels.csv").write_bytes(content)
    return load_data(CsvData(kind="csv", root=folder, **options), seed=0)


def rows(count: int, labels: int = 2) -> str:
    return "".join(f"{index}.png,{index % labels}\n" for index in range(count))


def test_the_column_split_defines_the_splits(folder: Path) -> None:
    lines = [f"{i}.png,{'cat' if i % 2 else 'dog'},{('train', 'validation', 'test')[i % 3]}\n" for i in range(30)]
    data = load(folder, "path,label,split\n" + "".join(lines))
    assert (data.task, data.labels) == ("multiclass", ("cat", "dog"))
    assert [len(split) for split in data.splits] == [10, 10, 10]
    assert data.validation.images[0] == folder / "1.png"
    assert data.validation.targets[:2].tolist() == [0, 1]


def test_splits_have_the_names_that_folders_can_have(folder: Path) -> None:
    lines = [f"{i}.png,{i % 2},{('TRAIN', 'val', 'valid', 'Test')[i % 4]}\n" for i in range(32)]
    data = load(
        folder,
        "path,label,split\n"
        + "".join(lines).replace(",0,", ",a,").replace(",1,", ",b,").replace("0.png,a,TRAIN", "0.png,b,train"),
    )
    assert [len(split) for split in data.splits] == [8, 16, 8]


def test_a_blank_before_a_quoted_field_is_no_part_of_the_field(folder: Path) -> None:
    data = load(folder, "path, label\n" + "".join(f'{i}.png, "{("NA", "b, c")[i % 2]}"\n' for i in range(40)))
    assert data.labels == ("NA", "b, c")


def test_only_line_ends_end_a_row(folder: Path) -> None:
    """Python's `str.splitlines` would also split at each of these characters."""
    names = ["a\u2028b", "a\x85b", "a\x0bb", "a\x1cb"]
    data = load(folder, "path,label\r\n" + "".join(f"{i}.png,{names[i % 4]}\r\n" for i in range(40)))
    assert data.labels == tuple(sorted(names))


def test_a_quoted_field_may_contain_a_line_end(folder: Path) -> None:
    data = load(folder, "path,label\n" + "".join(f'{i}.png,"{i % 2}\n"\n' for i in range(40)))
    assert data.labels == ("0", "1")


def test_labels_that_look_the_same_are_the_same_label(folder: Path) -> None:
    names = ["caf\u00e9", "cafe\u0301", "tea", "tea"]
    data = load(folder, "path,label\n" + "".join(f"{i}.png,{names[i % 4]}\n" for i in range(40)))
    assert data.labels == ("caf\u00e9", "tea")


def test_without_splits_a_fraction_of_each_class_is_drawn(folder: Path) -> None:
    data = load(folder, "path,label\n" + rows(40), validation_fraction=0.25, test_fraction=0.25)
    assert all(min(split.counts(2)) >= 1 for split in data.splits)
    assert 10 <= len(data.train) < 30
    assert len({path for split in data.splits for path in split.images}) == 40


def test_integer_labels_are_ordered_by_value(folder: Path) -> None:
    names = ["10", "9", "-1", "0", "other"]
    lines = [f"{index}.png,{names[index % 5]}\n" for index in range(40)]
    assert load(folder, "path,label\n" + "".join(lines)).labels == ("-1", "0", "9", "10", "other")


def test_1_and_01_are_different_labels_in_a_fixed_order(folder: Path) -> None:
    lines = [f"{index}.png,{'01' if index % 2 else '1'}\n" for index in range(40)]
    assert load(folder, "path,label\n" + "".join(lines)).labels == ("01", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,labels,split\n0.png,cat,train\n1.png,,validation\n2.png,cat,test\n",
            "needs two or more labels, not cat",
        ),
        ("path,labels,split\n0.png,cat|dog,test\n1.png,dog,validation\n", "no images for training in "),
    ],
)
def test_data_that_cannot_be_trained_on_is_a_recipe_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"data: .*{message}"):
        load(folder, text)


def test_columns_have_any_order_and_others_quotes_and_a_byte_order_mark_are_accepted(folder: Path) -> None:
    lines = "".join(f'"{i}.png","x, {i % 2}",{i}\n' for i in range(20))
    data = load(folder, b"\xef\xbb\xbf" + f"path,label,pages\n{lines}".encode())
    assert data.labels == ("x, 0", "x, 1")
    assert load(folder, "label,path\r\n" + "".join(f"{i % 2},{i}.png\r\n" for i in range(20))).labels == ("0", "1")


def test_an_image_has_several_labels_or_none(folder: Path) -> None:
    data = load(
        folder,
        "path,labels,split\n0.png,cat|dog,train\n1.png,dog,train\n2.png,,train\n3.png,bird,validation\n4.png,cat,test\n",
    )
    assert (data.task, data.labels) == ("multilabel", ("bird", "cat", "dog"))
    assert data.train.targets.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert data.train.targets.dtype == np.float32
    assert data.train.counts(len(data.labels)).tolist() == [0, 1, 2]


def test_validation_images_are_drawn_from_the_test_images_if_the_recipe_says_so(folder: Path) -> None:
    lines = [f"{i}.png,{i % 2},{'train' if i < 20 else 'test'}\n" for i in range(40)]
    data = load(folder, "path,label,split\n" + "".join(lines), validation_from="test", validation_fraction=0.5)
    assert [len(split) for split in data.splits] == [20, 10, 10]
    assert {int(path.stem) for path in data.train.images} == set(range(20))


@pytest.mark.parametrize("column", ["label", "labels"])
def test_a_manifest_that_is_written_keeps_the_labels_and_the_splits(column: str, folder: Path) -> None:
    names = ["a", "b, c", '"d"', "e\u2028"]
    lines = [f'{i}.png,"{names[i % 4].replace(chr(34), chr(34) * 2)}"\n' for i in range(40)]
    before = load(folder, f"path,{column}\n" + "".join(lines))
    text = to_manifest(before, folder)
    after = load(folder, text)
    assert (after.labels, after.task, after.drawn) == (before.labels, before.task, frozenset())
    for old, new in zip(before.splits, after.splits, strict=True):
        assert new.images == old.images
        assert np.array_equal(new.targets, old.targets)


def test_a_label_or_a_path_that_a_manifest_cannot_hold_is_a_recipe_error(folder: Path) -> None:
    data = load(folder, "path,label\n" + rows(40))
    with pytest.raises(RecipeError, match="' cat' cannot stand in a manifest; rename it"):
        to_manifest(replace(data, labels=(" cat", "dog")), folder)
    with pytest.raises(RecipeError, match="png is not below .*other, where the manifest is"):
        to_manifest(data, folder / "other")


HEAD = "path,label\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "empty; the first line must be path,label", id="empty file"),
        pytest.param(HEAD, "no rows", id="no rows"),
        pytest.param(HEAD.encode() + b"caf\xe9.png,a\n", "not UTF-8 .byte 14 is 0xe9.; save it as UTF-8", id="latin-1"),
        pytest.param("path;label\n0.png;a\n", "separated by ';'; separate them by commas", id="semicolons"),
        pytest.param("path\tlabel\n0.png\ta\n", r"separated by '\\t'", id="tabs"),
        pytest.param("path,lable\n0.png,a\n", "unknown column 'lable'; did you mean 'label'", id="column"),
        pytest.param("file,label\n0.png,a\n", "the columns are file, label; needed are path, and", id="no path"),
        pytest.param("path,label,labels\n0.png,a,b\n", "needed are path, and either label or labels", id="both"),
        pytest.param("path,label,label\n0.png,a,b\n", "repeated columns: label", id="twice"),
        pytest.param(HEAD + "0.png\n", "line 2: 1 fields, but the header has 2", id="short row"),
        pytest.param(HEAD + '0.png,a\n"1.png,b\n', "line 3: unexpected end of data", id="open quote"),
        pytest.param(HEAD + ",a\n", "line 2: empty path", id="empty path"),
        pytest.param(HEAD + "0.png,\n1.png, \n", "line 2: empty label; line 3: empty label", id="empty label"),
        pytest.param("path,labels\n0.png,a||b\n", "line 2: empty label", id="empty label of several"),
        pytest.param("path,labels\n0.png,\n", "no image has a label", id="no labels"),
        pytest.param(HEAD + "99.png,a\n", "line 2: there is no file 99.png", id="missing file"),
        pytest.param("path,label,split\n0.png,a,dev\n", "unknown split 'dev'; use train, validation or", id="split"),
        pytest.param("path,label,split\n0.png,a,\n", "line 2: unknown split ''", id="empty split"),
        pytest.param(HEAD + "../0.png,a\n", "line 2: ../0.png is outside the folder of the manifest", id="parent"),
        pytest.param(HEAD + "a/../../0.png,a\n", "is outside the folder of the manifest", id="hidden parent"),
        pytest.param(HEAD + "/etc/passwd,a\n", "is outside the folder of the manifest", id="absolute"),
        pytest.param(HEAD + "0.png,a\n./0.png,b\n", "0.png is in lines 2, 3; list each image once", id="duplicate"),
        pytest.param(HEAD + "0.png,a\n1.png,a\n", "1 labels; two or more are needed", id="one label"),
        pytest.param(
            "path,label,split\n0.png,a,train\n1.png,b,train\n2.png,c,test\n",
            "labels without a row in the split train: c",
            id="untrained label",
        ),
    ],
)
def test_an_invalid_manifest_is_a_recipe_error(folder: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(RecipeError, match=f"data.manifest: .*labels.csv: .*{message}") as caught:
        load(folder, text)
    assert "\n" not in str(caught.value)


def test_the_first_problems_are_listed_and_the_others_counted(folder: Path) -> None:
    with pytest.raises(RecipeError, match="line 6: empty label and 25 more"):
        load(folder, HEAD + "".join(f"{index}.png,\n" for index in range(30)))


def test_a_missing_manifest_is_a_recipe_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.manifest: .*none.csv: No such file"):
        load_data(CsvData(kind="csv", root=tmp_path, manifest="none.csv"), seed=0)


def test_a_missing_file_is_accepted_if_unreadable_images_are_skipped(folder: Path) -> None:
    data = load(folder, HEAD + rows(20) + "99.png,0\n", on_unreadable="skip")
    assert sum(len(split) for split in data.splits) == 21
