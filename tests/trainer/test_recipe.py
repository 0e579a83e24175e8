from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch
from graphs import make_spec

from tamiz import RecipeError
from tamiz_train import recipe as sections
from tamiz_train.augmentation import create_augmentation
from tamiz_train.model_input import model_input
from tamiz_train.networks import build_classifier
from tamiz_train.optimization import create_optimizer, create_schedule, freeze
from tamiz_train.recipe import Recipe, Section, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_accepted_by_the_libraries_it_uses(name: str) -> None:
    recipe = load_recipe(name, ["model.weights=null", "model.pretrained=false"])
    assert recipe.name == name
    size, _ = model_input(recipe)
    spec = make_spec([str(i) for i in range(10)], size.height, size.width, size.colour)
    network = build_classifier(recipe.model, spec)
    for phase in recipe.train.all_phases():
        freeze(network, phase.trainable)
        optimizer = create_optimizer(recipe.train.optimizer, phase.lr, network)
        if recipe.train.schedule:
            create_schedule(
                recipe.train.schedule, optimizer, epochs=phase.epochs, total_steps=100, monitor="validation_loss"
            )
    create_augmentation(recipe.augmentation, 0, size)
    assert network(torch.zeros((2, *size.shape), dtype=torch.uint8)).shape == (2, 10)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_resolved_recipe_is_read_back_unchanged(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ["train.seed=3", "data.subset_size=100"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert load_recipe(path) == recipe


def test_the_quickstart_has_the_published_settings() -> None:
    recipe = load_recipe("fashion_mnist_quickstart")
    train = recipe.train
    assert (recipe.model.name, train.epochs, train.batch_size, train.shuffle) == ("mlp", 10, 64, False)
    assert (train.optimizer.name, train.optimizer.lr, train.optimizer.options) == ("SGD", 1e-3, {})


def test_overrides_take_precedence_over_the_yaml() -> None:
    recipe = load_recipe("digits", ["train.epochs=3", "train.optimizer.lr=0.5", "data.root=/x", "model.weights=null"])
    assert (recipe.train.epochs, recipe.train.optimizer.lr, recipe.data.root) == (3, 0.5, Path("/x"))


def test_overrides_take_precedence_over_the_environment_and_that_over_the_yaml() -> None:
    environment = {
        "TAMIZ_TRAIN__BATCH_SIZE": "32",
        "TAMIZ_TRAIN__DEVICE": "cpu",
        "TAMIZ_TRAIN__NUM_THREADS": "1",
        "TAMIZ_TRAIN__OPTIMIZER__LR": "0.25",
        "TAMIZ_RUNS_DIR": "/elsewhere",
        "MLFLOW_TRACKING_URI": "sqlite:///other.db",
        "MLFLOW_EXPERIMENT_NAME": "shared",
        "TAMIZ_TRACKING__EXPERIMENT": "own",
    }
    recipe = load_recipe("digits", ["train.batch_size=8"], environment)
    train = recipe.train
    assert (train.batch_size, train.device, train.num_threads, train.optimizer.lr) == (8, "cpu", 1, 0.25)
    assert recipe.runs_dir == Path("/elsewhere")
    assert (recipe.tracking.uri, recipe.tracking.experiment) == ("sqlite:///other.db", "own")
    assert load_recipe("digits").train.batch_size == 64
    # Text, not the number that YAML would read.
    assert load_recipe("digits", [], {"MLFLOW_EXPERIMENT_NAME": "2024"}).tracking.experiment == "2024"


def test_an_unknown_key_in_the_environment_is_an_error_and_other_variables_are_ignored() -> None:
    with pytest.raises(RecipeError, match="TAMIZ_TRIAN__EPOCHS: a recipe has no section 'trian'; did you mean 'train'"):
        load_recipe("digits", environment={"TAMIZ_TRIAN__EPOCHS": "3"})
    with pytest.raises(RecipeError, match="unknown key train.epoch; did you mean 'epochs'"):
        load_recipe("digits", environment={"TAMIZ_TRAIN__EPOCH": "3"})
    # Variables of the acceptance tests, of a server, and of other tools.
    others = {"TAMIZ_DATA": "/data", "TAMIZ_KEY": "secret", "TAMIZ_TRAIN": "x", "TAMIZ_ANYTHING": "y"}
    assert load_recipe("digits", environment=others) == load_recipe("digits")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["train.epoch=3"], "unknown key train.epoch; did you mean 'epochs'?", id="unknown key"),
        pytest.param(["data.rot=x"], "unknown key data.rot; did you mean 'root'?", id="unknown key of a union"),
        pytest.param(["trian.epochs=3"], "unknown key trian; did you mean 'train'?", id="unknown section"),
        pytest.param(["train.epochs=0"], "train.epochs: .*greater than or equal to 1 .got 0.", id="value"),
        pytest.param(["train.epochs=x"], "train.epochs: .*valid integer.*'x'", id="type"),
        pytest.param(["data.root=null"], "data.root", id="null"),
        pytest.param(["data.kind=folders"], "data.*folders", id="kind"),
        pytest.param(["train.epochs"], "write key=value", id="no value"),
        pytest.param(["name.x=1"], "name is a value, not a section", id="value as section"),
        pytest.param(["preprocessing.colour=RGB"], "colour RGB has 3 channels; set 3 means", id="channels"),
        pytest.param(["preprocessing.revision=9"], "preprocessing.revision: ", id="revision"),
        pytest.param(["name=a/b"], "name: ", id="name"),
        pytest.param(["model.pretrained=true", "model.weights=x"], "set pretrained or weights", id="two sources"),
        pytest.param(["augmentation=3"], "augmentation: .*valid string .got 3.", id="a set's name"),
        pytest.param(
            ["train.phases=[{epochs: 2, lr: 1}]"], "set either epochs or phases.*--set train.epochs=null", id="phases"
        ),
        pytest.param(["preprocessing.height=null"], "preprocessing: set both height and width", id="height alone"),
        pytest.param(["preprocessing=0"], "preprocessing: .*got 0", id="size"),
        pytest.param(["preprocessing=x"], "preprocessing: .*got 'x'", id="size as text"),
        pytest.param(["normalisation=imagnet"], "normalisation: .*'imagenet'.*got 'imagnet'", id="normalisation"),
        pytest.param(["normalisation={mean: [0.5], std: [0]}"], "recipe digits: normalisation.std.0: ", id="deviation"),
        pytest.param(["name=" + 5000 * "a/"], "name: .{,300}$", id="a long value"),
        pytest.param(
            ["train.epochs=null", "train.phases=[{epochs: 2, lr: 1, trainable: tail}]"],
            "train.phases.0.trainable: .*'tail'",
            id="trainable",
        ),
        pytest.param(["model.head={hidden: [5], dropout: [0.1]}"], "need 2 values of dropout, not 1", id="dropout"),
        pytest.param(["train.optimizer.lr=.inf"], "train.optimizer.lr: .*finite number", id="infinity"),
        pytest.param(["normalisation={mean: [.nan], std: [1]}"], "normalisation.mean.0: .*finite number", id="NaN"),
        pytest.param(["thresholds=2"], "thresholds: .*got 2", id="threshold"),
    ],
)
def test_an_invalid_value_is_an_error_with_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("digits", overrides)


def test_all_problems_are_in_one_error() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", ["train.epochs=0", "train.sed=1", "preprocessing.height=-4"])
    for part in ("train.epochs", "train.sed; did you mean 'seed'?", "preprocessing.height"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_or_unreadable_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe 'digit'; did you mean 'digits'"):
        load_recipe("digit")
    with pytest.raises(RecipeError, match="none.yaml: No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"digits.yaml: No such file or directory; did you mean 'digits'\?"):
        load_recipe("digits.yaml")
    for text in ("a: [", "- a\n- b", "3"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(RecipeError, match=r"bad.yaml: not (valid YAML|a mapping)"):
            load_recipe(tmp_path / "bad.yaml")


def test_a_recipe_or_folder_of_the_working_directory_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        RecipeError, match="no recipe 'photos'; to write a recipe for the images in it, type: tamiz recipe new photos$"
    ):
        load_recipe("photos")
    (tmp_path / "photos.yaml").write_text("x")
    for wrong in ("photos", "photo", "fotos.yaml", "photos.yml", "Photos.yaml"):
        with pytest.raises(RecipeError, match=r"; did you mean 'photos.yaml'\?"):
            load_recipe(wrong)
    with pytest.raises(RecipeError, match=rf"; did you mean '{tmp_path}/photos.yaml'\?"):
        load_recipe(tmp_path / "fotos.yaml")


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("epochs=2", "'train.epochs'"),
        ("train.root=x", "'data.root'"),
        ("lr=0.1", "'train.optimizer.lr'"),
        ("model.options_=1", "'options'"),
        ("options=1", "'model.options' or 'train.optimizer.options' or 'train.schedule.options'"),
        ("height=8", "'preprocessing.height'"),
    ],
)
def test_a_key_that_belongs_to_another_section_is_suggested_with_it(setting: str, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"unknown key [^;]*; did you mean {key}\?"):
        load_recipe("digits", [setting])


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("digits").train.epochs = 3
    assert isinstance(load_recipe("digits"), Recipe)


SECTIONS = [value for value in vars(sections).values() if isinstance(value, type) and issubclass(value, Section)]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described_in_the_docstring_of_its_section(section: type[Section]) -> None:
    classes = [base for base in section.__mro__ if issubclass(base, Section) and base is not Section]
    described = {key for base in classes for key in re.findall(r"^    (\w+): [A-Z`]", inspect.getdoc(base) or "", re.M)}
    assert described == {key for base in classes for key in base.model_fields}
