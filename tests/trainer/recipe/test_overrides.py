"""`--set` and environment variables: switching the kind of data, and removing keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamiz import RecipeError
from tamiz_train.recipe import CsvData, FolderData, ScheduleSettings, VocData, load_recipe


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    path = tmp_path / "photographs.yaml"
    path.write_text("data: {kind: folder, root: photographs}\nmodel: {name: mobilenetv2_100}\npreprocessing: 160\n")
    return path


def test_the_kind_of_data_can_be_switched_and_keys_of_the_old_kind_are_left_out() -> None:
    data = load_recipe("documents", ["data.kind=folder", "data.root=photographs"]).data
    assert data == FolderData(kind="folder", root=Path("photographs"), validation_fraction=0.2, on_unreadable="skip")
    assert isinstance(load_recipe("voc2007", ["data.kind=csv"]).data, CsvData)
    assert isinstance(load_recipe("mnist_lenet", environment={"TAMIZ_DATA__KIND": "voc"}).data, VocData)


def test_a_key_that_is_set_for_another_kind_of_data_is_an_error_that_says_how_to_remove_it() -> None:
    with pytest.raises(RecipeError, match="data.difficult belongs to data.kind voc, not to folder; remove the key"):
        load_recipe("documents", ["data.kind=folder", "data.difficult=false"])


def test_a_key_of_another_kind_in_the_file_can_be_removed_on_the_command_line(photographs: Path) -> None:
    photographs.write_text("data: {kind: folder, root: x, manifest: y.csv}\nmodel: {name: mlp}\n")
    with pytest.raises(RecipeError, match=r"data.manifest belongs to data.kind csv.*--set data.manifest=null"):
        load_recipe(photographs)
    assert load_recipe(photographs, ["data.manifest=null"]).data == FolderData(kind="folder", root=Path("x"))


def test_an_unknown_key_stays_an_error_after_a_switch_of_the_kind(photographs: Path) -> None:
    photographs.write_text("data: {kind: folder, root: x, manifset: y.csv}\nmodel: {name: mlp}\n")
    with pytest.raises(RecipeError, match="unknown key data.manifset; did you mean 'manifest'"):
        load_recipe(photographs, ["data.kind=csv"])


def test_null_removes_a_key_so_that_its_default_applies() -> None:
    recipe = load_recipe("documents", ["augmentation=null", "train.batch_size=null", "serving=null"])
    assert (recipe.augmentation, recipe.train.batch_size, recipe.serving.max_batch_size) == ((), 32, 16)
    options = load_recipe("clothing", ["model.options.bn_eps=null"]).model.options
    assert options == {"pad_type": "same"}


def test_null_stays_where_it_is_a_value_of_the_key() -> None:
    recipe = load_recipe("digits", ["tracking.uri=null", "train.schedule=null", "data.subset_size=null"])
    assert (recipe.tracking.uri, recipe.train.schedule, recipe.data.subset_size) == (None, None, None)


def test_a_required_key_that_null_removes_is_missing() -> None:
    with pytest.raises(RecipeError, match="data.root is missing"):
        load_recipe("digits", ["data.root=null"])


def test_the_last_value_of_a_key_counts_also_after_null() -> None:
    assert load_recipe("digits", ["train.batch_size=null", "train.batch_size=8"]).train.batch_size == 8
    assert load_recipe("digits", ["train.batch_size=8", "train.batch_size=null"]).train.batch_size == 32
    assert load_recipe("digits", ["train.seed=null"], {"TAMIZ_TRAIN__SEED": "5"}).train.seed == 0


def test_one_key_of_an_input_that_is_given_as_a_number_can_be_set(photographs: Path) -> None:
    settings = load_recipe(photographs, ["preprocessing.colour=L"]).preprocessing
    assert (settings.height, settings.width, settings.colour) == (160, 160, "L")
    assert load_recipe(photographs, ["preprocessing=96"]).preprocessing.height == 96


def test_an_option_of_the_default_schedule_can_be_set_alone(photographs: Path) -> None:
    schedule = load_recipe(photographs, ["train.schedule.options.max_lr=0.01"]).train.schedule
    assert schedule == ScheduleSettings(name="OneCycleLR", options={"max_lr": 0.01})
    named = load_recipe("digits", ["train.schedule={name: StepLR}", "train.schedule.options.step_size=2"])
    assert named.train.schedule == ScheduleSettings(name="StepLR", options={"step_size": 2})
