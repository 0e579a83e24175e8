"""A new recipe for a data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from datasets_on_disk import write_images

from tamiz import TamizError
from tamiz.spec import Normalisation
from tamiz_train.draft import Weights, draft_recipe
from tamiz_train.model_input import model_input
from tamiz_train.recipe import CsvData, FolderData, Recipe, load_recipe
from tamiz_train.setup import check
from tamiz_train.survey import survey
from tamiz_train.training import train


def drafted(images: Path, tmp_path: Path, weights: Weights | None = None) -> Recipe:
    """The recipe that is written for the images, as it is loaded from its file."""
    path = tmp_path / "drafted.yaml"
    path.write_text(draft_recipe(survey(images), weights), encoding="utf-8")
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


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
INCEPTION = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        write_photographs(tmp_path / "photographs" / label, 20)
    return tmp_path / "photographs"


def test_the_recipe_of_photographs_fine_tunes_weights_with_the_input_that_timm_gives_for_them(
    photographs: Path, tmp_path: Path
) -> None:
    recipe = drafted(photographs, tmp_path, Weights.of_file(Path("mine.safetensors")))
    assert (recipe.model.name, recipe.model.weights) == ("mobilenetv2_100", Path("mine.safetensors"))
    preprocessing, normalisation = model_input(recipe)
    assert (preprocessing.height, preprocessing.width) == (192, 192)
    assert (recipe.normalisation, normalisation) == (None, IMAGENET)
    downloaded = drafted(photographs, tmp_path, Weights())
    assert (downloaded.model.pretrained, downloaded.normalisation) == (True, None)


@pytest.mark.parametrize(
    ("model", "used", "written", "size"),
    [
        ("resnet50", IMAGENET, None, 192),
        ("resnet50", INCEPTION, INCEPTION, 192),
        # These networks take images of one size only.
        ("vit_tiny_patch16_224", INCEPTION, None, 224),
        ("vit_tiny_patch16_224", IMAGENET, IMAGENET, 224),
    ],
)
def test_weights_with_a_configuration_of_timm_beside_them_give_model_and_normalisation(
    model: str, used: Normalisation, written: Normalisation | None, size: int, photographs: Path, tmp_path: Path
) -> None:
    configuration = {"architecture": model, "pretrained_cfg": {"mean": used.mean, "std": used.std}}
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    recipe = drafted(photographs, tmp_path, Weights.of_file(tmp_path / "model.safetensors"))
    assert (recipe.model.name, recipe.normalisation) == (model, written)
    preprocessing, normalisation = model_input(recipe)
    assert (preprocessing.height, normalisation) == (size, used)


@pytest.mark.parametrize(
    "configuration", ["", "[]", '{"architecture": "bert"}', '{"architecture": "x", "pretrained_cfg": {}}']
)
def test_another_configuration_beside_the_weights_is_not_read(configuration: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(configuration)
    path = tmp_path / "model.safetensors"
    assert Weights.of_file(path) == Weights(path, "mobilenetv2_100")


def test_the_learning_rate_follows_the_square_root_of_the_batch_size(tmp_path: Path) -> None:
    rates = {}
    for count in (40, 160, 640):
        for label in ("cat", "dog"):
            write_images(tmp_path / str(count) / label, count)
        settings = drafted(tmp_path / str(count), tmp_path).train
        rates[settings.batch_size] = settings.optimizer.lr
    assert rates == {4: 0.0013, 16: 0.0025, 64: 0.005}


def test_the_recipe_of_photographs_without_weights_passes_the_check(photographs: Path, tmp_path: Path) -> None:
    recipe = drafted(photographs, tmp_path)
    assert (recipe.model.name, recipe.model.pretrained) == ("resnet18", False)
    check(recipe)


def test_grey_photographs_are_read_as_grey_only_by_a_network_without_colour_weights(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_photographs(tmp_path / "scans" / label, 20, grey=True)
    assert drafted(tmp_path / "scans", tmp_path).preprocessing.colour == "L"
    assert drafted(tmp_path / "scans", tmp_path, Weights()).preprocessing.colour == "RGB"


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


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder of images and of tables, one of which is a manifest."""
    write_images(tmp_path / "listed" / "images", 12)
    images = sorted((tmp_path / "listed" / "images").iterdir())
    rows = [f"images/{path.name},{'cat' if index % 2 else 'dog'}" for index, path in enumerate(images)]
    (tmp_path / "listed" / "annotations.CSV").write_text("\n".join(['"path", label', *rows]))
    (tmp_path / "listed" / "cameras.csv").write_text("camera,lens\n")
    return tmp_path / "listed"


def test_the_only_manifest_in_a_folder_is_found_whatever_its_name_is(listed: Path, tmp_path: Path) -> None:
    assert manifest_of(drafted(listed, tmp_path)) == listed / "annotations.CSV"
    shutil.copy(listed / "annotations.CSV", listed / "labels.csv")
    assert manifest_of(drafted(listed, tmp_path)) == listed / "labels.csv"


def test_of_several_manifests_in_a_folder_one_must_be_named(listed: Path, tmp_path: Path) -> None:
    shutil.copy(listed / "annotations.CSV", listed / "more.csv")
    with pytest.raises(
        TamizError, match=r"has 2 manifests: annotations.CSV, more.csv; name the one to use, such as .*"
    ):
        survey(listed)
    assert manifest_of(drafted(listed / "more.csv", tmp_path)) == listed / "more.csv"


def manifest_of(recipe: Recipe) -> Path:
    assert isinstance(recipe.data, CsvData)
    return recipe.data.root / recipe.data.manifest


def test_a_table_without_the_columns_of_a_manifest_is_named_if_there_is_nothing_else(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 3)
    (tmp_path / "data" / "mine.csv").write_text("file,class\n")
    with pytest.raises(TamizError, match=r"mine.csv: the columns are file, class; needed are path, and either label"):
        survey(tmp_path / "data")


def test_unreadable_images_are_skipped_and_copies_are_counted(root: Path, tmp_path: Path) -> None:
    copies = survey(root).repeated
    (root / "train" / "cat" / "unreadable.png").write_bytes(b"no image")
    original = next((root / "train" / "dog").iterdir())
    (root / "train" / "dog" / "copy.png").write_bytes(original.read_bytes())
    found = survey(root)
    assert ([path.name for path in found.unreadable], found.repeated) == (["unreadable.png"], copies + 1)
    assert drafted(root, tmp_path).data.on_unreadable == "skip"


def test_labels_whose_images_are_all_in_folders_below_theirs_are_known(root: Path) -> None:
    assert survey(root).nested == ()
    for split in ("train", "validation", "test"):
        (root / split / "cat").rename(root / split / "inner")
        (root / split / "cat").mkdir()
        (root / split / "inner").rename(root / split / "cat" / "inner")
    assert survey(root).nested == ("cat",)
    # Labels of which some images are in their own folder are meant as they are.
    shutil.move(root / "train" / "cat" / "inner" / "3.png", root / "train" / "cat")
    assert survey(root).nested == ()
    # Without folders of splits.
    assert survey(root / "train").nested == ()
    shutil.move(root / "train" / "cat" / "3.png", root / "train" / "cat" / "inner")
    assert survey(root / "train").nested == ("cat",)


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
