"""The input that a recipe leaves to the model: its size and its normalisation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tamiz.spec import Normalisation
from tamiz_train.model_input import model_input
from tamiz_train.recipe import Recipe, load_recipe
from tamiz_train.run import Run
from tamiz_train.setup import check


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Loads a recipe of which only the data and the model are written."""
    path = tmp_path / "pets.yaml"
    path.write_text("data: {kind: folder, root: pets}\nmodel: {name: mobilenetv2_100}\n")
    return lambda *overrides: load_recipe(path, overrides)


def test_a_recipe_needs_only_data_and_a_model(recipe: Callable[..., Recipe]) -> None:
    loaded = recipe()
    train = loaded.train
    assert (loaded.name, train.epochs, train.batch_size, train.optimizer.name) == ("pets", 10, 32, "AdamW")
    assert train.schedule is not None
    assert train.schedule.name == "OneCycleLR"


def test_the_input_of_a_model_is_that_of_its_weights(recipe: Callable[..., Recipe]) -> None:
    preprocessing, normalisation = model_input(recipe())
    assert preprocessing.shape == (224, 224, 3)
    assert normalisation == Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    preprocessing, normalisation = model_input(recipe("model.name=inception_v3"))
    assert preprocessing.shape == (299, 299, 3)
    assert normalisation == Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_what_the_recipe_sets_is_kept(recipe: Callable[..., Recipe]) -> None:
    preprocessing, normalisation = model_input(
        recipe("preprocessing={height: 96, width: 64, interpolation: area}", "normalisation=none")
    )
    assert (preprocessing.shape, preprocessing.interpolation) == ((96, 64, 3), "area")
    assert normalisation == Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_the_size_that_a_model_is_built_for_is_the_size_of_its_input(recipe: Callable[..., Recipe]) -> None:
    vit = "model.name=vit_tiny_patch16_224"
    assert model_input(recipe(vit, "model.options={img_size: 96}"))[0].shape == (96, 96, 3)
    assert model_input(recipe(vit, "model.options={img_size: [96, 64]}"))[0].shape == (96, 64, 3)


def test_a_grey_input_has_the_average_normalisation_of_the_colours(recipe: Callable[..., Recipe]) -> None:
    grey = Normalisation(mean=(0.449,), std=(0.226,))
    assert model_input(recipe("preprocessing.colour=L"))[1] == grey
    assert model_input(recipe("preprocessing.colour=L", "normalisation=imagenet"))[1] == grey


def test_the_networks_of_tamiz_have_small_inputs_with_values_around_zero(recipe: Callable[..., Recipe]) -> None:
    preprocessing, normalisation = model_input(recipe("model.name=cnn", "preprocessing.colour=L"))
    assert preprocessing.shape == (28, 28, 1)
    assert normalisation == Normalisation(mean=(0.5,), std=(0.5,))


def test_a_run_records_the_input_that_its_recipe_leaves_to_the_model(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "pets.yaml"
    path.write_text(f"data: {{kind: folder, root: {root}}}\nmodel: {{name: lenet5}}\nruns_dir: {tmp_path / 'runs'}\n")
    setup = check(load_recipe(path))
    recorded = Run.create(setup.recipe).recipe
    assert (recorded.preprocessing.height, recorded.preprocessing.width) == (28, 28)
    assert recorded.normalisation == setup.spec.normalisation == Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
