"""Training a recipe to a finished run, from Python and from the command line."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tamiz import RecipeError, RunError
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data
from tamiz_train.setup import check
from tamiz_train.training import train


def test_a_run_folder_has_the_results_of_training(trained: Run) -> None:
    assert {"recipe.yaml", "model.safetensors", "spec.json", "metrics.json"} <= {
        path.name for path in trained.path.iterdir()
    }
    metrics = trained.metrics
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    assert {"train_loss", "validation_loss", "validation_accuracy", "seconds"} <= set(metrics["epochs"][0])
    assert metrics["parameters"] == 61_706
    assert metrics["images"] == {"train": 1230, "validation": 207, "test": 360}
    assert trained.spec.labels == tuple("0123456789")
    assert not list(trained.path.glob("*.part"))


def test_four_epochs_reach_a_test_accuracy_of_70_percent(tiny_recipe: Callable[..., Recipe]) -> None:
    run = train(tiny_recipe("train.epochs=4"))
    assert run.metrics["test"]["accuracy"] > 0.7
    assert run.metrics["epochs"][-1]["train_loss"] < run.metrics["epochs"][0]["train_loss"] / 2


def test_the_weights_of_the_best_epoch_are_kept(tiny_recipe: Callable[..., Recipe]) -> None:
    # The learning rate grows until it destroys the weights, so the last epoch is not the best.
    options = ["train.schedule.name=ExponentialLR", "train.schedule.options={gamma: 50}", "train.epochs=3"]
    run = train(tiny_recipe(*options))
    accuracies = [epoch["validation_accuracy"] for epoch in run.metrics["epochs"]]
    best = max(accuracies)
    assert accuracies[-1] < best
    assert run.metrics["best_epoch"] == accuracies.index(best) + 1
    assert run.metrics["validation"]["accuracy"] == pytest.approx(best)


def test_the_seed_determines_the_weights(trained: Run, tiny_recipe: Callable[..., Recipe]) -> None:
    def weights(run: Run) -> dict[str, torch.Tensor]:
        return load_file(run.path / "model.safetensors")

    same, other = weights(train(tiny_recipe())), weights(train(tiny_recipe("train.seed=1")))
    first = weights(trained)
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_an_unreadable_training_image_ends_the_run_or_is_left_out(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    unreadable = sorted((root / "train" / "3").iterdir())[:2]
    for path in unreadable:
        path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"\.png: not an image.*set data.on_unreadable to skip"):
        train(tiny_recipe(f"data.root={root}"))

    (root / "notes.txt").write_text("")
    (root / "train" / ".thumbnails").mkdir()
    lines: list[str] = []
    run = train(tiny_recipe(f"data.root={root}", "data.on_unreadable=skip"), lines.append)
    assert "left out: .txt files (1), hidden files and folders (1)" in lines
    assert run.metrics["left_out"] == {".txt files": 1, "hidden files and folders": 1}
    named = run.metrics["unreadable_images"]
    assert sorted(message.partition(":")[0] for message in named) == [str(path) for path in unreadable]
    assert "2 images could not be read and were left out" in lines
    assert all(f"left out: {message}" in lines for message in named)


def test_an_unreadable_test_image_stops_a_run_before_it_starts(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    damaged = min((root / "test" / "3").iterdir())
    damaged.write_bytes(b"damaged")
    with pytest.raises(RunError, match=rf"{damaged}: not an image.*; set data.on_unreadable to skip"):
        train(tiny_recipe(f"data.root={root}", f"runs_dir={tmp_path / 'runs'}"))
    assert not (tmp_path / "runs").exists()


def test_training_images_that_can_all_not_be_read_end_the_run(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(RunError, match="no image for training can be read: .*not an image"):
        train(tiny_recipe(f"data.root={root}", "data.on_unreadable=skip"))


def test_data_without_test_images_is_measured_on_the_validation_images(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits / "train", root / "train")
    shutil.copytree(digits / "test", root / "val")
    lines: list[str] = []
    run = train(tiny_recipe(f"data.root={root}", "train.epochs=1"), lines.append)
    assert (run.metrics["images"]["test"], run.metrics["test"]) == (0, {})
    assert re.search(r": validation accuracy 0\.\d+; the data has no test images$", lines[-1])
    with pytest.raises(RunError, match="has no test images; evaluate another split, or give images"):
        load_run_data(run, ["test"])


ONE_PIXEL = ["model.name=test_efficientnet", "preprocessing={height: 8, width: 8, colour: L}", "train.epochs=1"]
"""A network whose last feature map has one pixel, so batch normalisation has one value per image and channel."""


def test_a_network_with_batch_normalisation_trains_when_one_image_is_left_over(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    run = train(tiny_recipe(*ONE_PIXEL, "train.batch_size=60", "data.subset_size=61"))
    assert run.metrics["images"]["train"] == 61


def test_a_network_with_batch_normalisation_trains_when_one_image_of_a_batch_can_be_read(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    for path in sorted((root / "train").rglob("*.png"))[1:]:
        path.write_bytes(b"damaged")
    options = [f"data.root={root}", "data.on_unreadable=skip", "data.validation_from=test", "train.batch_size=2000"]
    assert len(train(tiny_recipe(*ONE_PIXEL, *options)).metrics["unreadable_images"]) > 1000


def test_batches_of_one_image_are_a_recipe_error_of_a_network_with_batch_normalisation(
    tiny_recipe: Callable[..., Recipe],
) -> None:
    with pytest.raises(RecipeError, match="train.batch_size: .* needs two or more images in each batch"):
        train(tiny_recipe(*ONE_PIXEL, "train.batch_size=1", "data.subset_size=20"))


def test_the_precision_that_a_cpu_uses_instead_of_float16_is_said_once(tiny_recipe: Callable[..., Recipe]) -> None:
    said = "train.precision: 16-mixed needs a GPU; bf16-mixed is used on this CPU"
    assert said in str(check(tiny_recipe("train.device=cpu", "train.precision=16-mixed"))).splitlines()
    assert "mixed" not in str(check(tiny_recipe("train.device=cpu", "train.precision=bf16-mixed")))
    lines: list[str] = []
    train(tiny_recipe("train.device=cpu", "train.precision=16-mixed", "train.epochs=1"), lines.append)
    assert [line for line in lines if "mixed" in line] == [said]


def test_a_validation_without_readable_images_is_a_recipe_error(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    shutil.copytree(digits / "test", root / "validation")
    for path in (root / "validation").rglob("*.png"):
        path.write_bytes(b"damaged")
    with pytest.raises(RecipeError, match="train: .*validation_accuracy"):
        train(tiny_recipe(f"data.root={root}", "data.on_unreadable=skip", "train.epochs=1"))
