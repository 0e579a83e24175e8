"""A new recipe for a data set."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from datasets_on_disk import write_images

from tamiz import TamizError
from tamiz.spec import Normalisation
from tamiz_train.draft import draft_recipe
from tamiz_train.model_input import model_input
from tamiz_train.recipe import CsvData, FolderData, Recipe, load_recipe
from tamiz_train.setup import check
from tamiz_train.survey import survey
from tamiz_train.training import train


def drafted(images: Path, tmp_path: Path, **options: object) -> Recipe:
    """The recipe that is written for the images, as it is loaded from its file."""
    path = tmp_path / "drafted.yaml"
    path.write_text(draft_recipe(survey(images), **options), encoding="utf-8")  # type: ignore[arg-type]
    return load_recipe(path, [f"runs_dir={tmp_path / 'runs'}"])


def write_photographs(folder: Path, count: int, *, grey: bool = False) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(len(folder.name))
    for index in range(count):
        pixels = generator.integers(0, 256, (15, 20, 1 if grey else 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(pixels, (200, 150), interpolation=cv2.INTER_NEAREST))


def test_the_recipe_of_small_images_trains_a_small_network_from_random_weights(root: Path, tmp_path: Path) -> None:
    recipe = drafted(root, tmp_path)
    assert isinstance(recipe.data, FolderData)
    assert (recipe.model.name, recipe.model.pretrained) == ("cnn", False)
    setup = check(recipe)
    assert [len(split) for split in setup.data.splits] == [40, 8, 10]


def test_the_recipe_of_digits_trains_to_a_good_accuracy_as_it_is_written(digits: Path, tmp_path: Path) -> None:
    recipe = drafted(digits, tmp_path)
    assert (recipe.preprocessing.colour, recipe.preprocessing.height) == ("L", 8)
    # As written, except that a third of the epochs is enough.
    short = load_recipe(
        tmp_path / "drafted.yaml", ["train.epochs=8", "tracking.uri=null", f"runs_dir={tmp_path / 'runs'}"]
    )
    assert train(short).metrics["test"]["accuracy"] > 0.95


def test_the_recipe_of_photographs_fine_tunes_weights_that_are_at_hand(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_photographs(tmp_path / "photographs" / label, 20)
    recipe = drafted(tmp_path / "photographs", tmp_path, weights=Path("mine.safetensors"))
    assert (recipe.model.name, recipe.model.weights) == ("mobilenetv2_100", Path("mine.safetensors"))
    preprocessing, normalisation = model_input(recipe)
    assert (preprocessing.height, preprocessing.width) == (192, 192)
    assert normalisation == Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert drafted(tmp_path / "photographs", tmp_path, pretrained=True).model.pretrained


def test_the_recipe_of_photographs_without_weights_passes_the_check_without_a_network(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_photographs(tmp_path / "photographs" / label, 20)
    recipe = drafted(tmp_path / "photographs", tmp_path)
    assert (recipe.model.name, recipe.model.pretrained) == ("resnet18", False)
    check(recipe)


def test_grey_photographs_are_read_as_grey_only_by_a_network_without_colour_weights(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_photographs(tmp_path / "scans" / label, 20, grey=True)
    assert drafted(tmp_path / "scans", tmp_path).preprocessing.colour == "L"
    assert drafted(tmp_path / "scans", tmp_path, pretrained=True).preprocessing.colour == "RGB"


def test_given_splits_are_kept_and_a_missing_test_split_is_offered_in_a_comment(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "test")
    text = draft_recipe(survey(root))
    assert "# The data has 8 images for validation." in text
    assert "# test_fraction: 0.2 # splits off images for test; the data has none" in text
    assert check(drafted(root, tmp_path)).data.drawn == frozenset()


def test_labels_with_few_images_get_more_weight(tmp_path: Path) -> None:
    for label, count in (("cat", 60), ("dog", 10)):
        write_images(tmp_path / "data" / label, count)
    assert drafted(tmp_path / "data", tmp_path).train.class_weights == "balanced"
    for index in range(50):
        write_images(tmp_path / "data" / "dog" / str(index), 1)
    assert drafted(tmp_path / "data", tmp_path).train.class_weights is None


def test_a_manifest_of_several_labels_gets_tuned_thresholds(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 40)
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    rows = [f"{name},{'cat|dog' if index % 2 else 'cat'}" for index, name in enumerate(names)]
    manifest = tmp_path / "images" / "mine.csv"
    manifest.write_text("\n".join(["path,labels", *rows]))
    recipe = drafted(manifest, tmp_path)
    assert isinstance(recipe.data, CsvData)
    assert (recipe.data.manifest, recipe.thresholds, recipe.train.label_smoothing) == (Path("mine.csv"), "tuned", 0)
    manifest.rename(tmp_path / "images" / "labels.csv")
    assert isinstance(drafted(tmp_path / "images", tmp_path).data, CsvData)


def test_unreadable_images_are_skipped_and_copies_are_counted(root: Path, tmp_path: Path) -> None:
    copies = survey(root).repeated
    (root / "train" / "cat" / "unreadable.png").write_bytes(b"no image")
    original = next((root / "train" / "dog").iterdir())
    (root / "train" / "dog" / "copy.png").write_bytes(original.read_bytes())
    found = survey(root)
    assert ([path.name for path in found.unreadable], found.repeated) == (["unreadable.png"], copies + 1)
    assert drafted(root, tmp_path).data.on_unreadable == "skip"


def test_labels_and_paths_of_any_text_give_a_valid_recipe(tmp_path: Path) -> None:
    folder = tmp_path / 'a: "b" # c\\d é'
    for label in ("#1: {x}", "new\nline"):
        write_images(folder / label, 12)
    assert drafted(folder, tmp_path).data.root == folder


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "there is no folder or manifest"), ("notes.txt", "neither a folder nor a .csv manifest")],
)
def test_a_path_without_labelled_images_is_an_error(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(TamizError, match=message):
        survey(tmp_path / name)


def test_images_none_of_which_can_be_read_are_an_error(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for index in range(10):
            (tmp_path / "data" / label / f"{index}.png").write_bytes(f"no image {label} {index}".encode())
    with pytest.raises(TamizError, match="none of the 20 images can be read"):
        survey(tmp_path / "data")


def test_the_layout_of_pascal_voc_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "voc" / "ImageSets").mkdir(parents=True)
    (tmp_path / "voc" / "Annotations").mkdir()
    with pytest.raises(TamizError, match="train.txt"):
        survey(tmp_path / "voc")
