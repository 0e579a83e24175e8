"""Runs on disk: finding them, and what they record."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from graphs import make_spec
from safetensors.numpy import save_file
from safetensors.torch import load_file

from tamiz import OutputError, RunError
from tamiz_train.data import load_data
from tamiz_train.data.content import content_hashes
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier

MakeRecipe = Callable[..., Recipe]


def finish(run: Run, trained: Run) -> None:
    # Transposed: a tensor that is not contiguous.
    weights = {"weight": torch.arange(6.0).reshape(2, 3).T}
    run.finish(weights, trained.spec, {"test": {"accuracy": 1}}, np.ones((2, 28, 28, 1), np.uint8))


def test_the_newest_finished_run_of_a_recipe_is_found(tiny_recipe: MakeRecipe, trained: Run, tmp_path: Path) -> None:
    recipe = tiny_recipe(f"runs_dir={tmp_path}")
    first, second, third = (Run.create(recipe) for _ in range(3))
    folder = tmp_path / recipe.name
    with pytest.raises(RunError, match=r"no finished run in .*metrics.json, which training writes last, is missing"):
        Run.find(folder)
    finish(first, trained)
    finish(second, trained)
    assert Run.find(folder) == second
    assert Run.find(first.path) == first
    assert Run.find_unfinished(folder) == third
    assert Run.find_unfinished(first.path) == first
    assert (second.finished, third.finished) == (True, False)


def test_an_unknown_run_is_an_error_that_suggests_the_closest_one(
    tiny_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no run digits: there is no such folder; `tamiz train` creates runs"):
        Run.find("digits")
    path = Run.create(tiny_recipe("runs_dir=runs")).path
    for find in (Run.find, Run.find_unfinished):
        for wrong in ("digits", "runs/digit", "rums/digits"):
            with pytest.raises(RunError, match=rf"no run {wrong}: .*; did you mean 'runs/digits'\?"):
                find(wrong)
        with pytest.raises(RunError, match=rf"; did you mean '{path}'\?"):
            find(f"{path}0")


def test_the_folder_of_the_runs_of_all_recipes_is_an_error_that_names_them(
    tiny_recipe: MakeRecipe, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Run.create(tiny_recipe("runs_dir=runs", "name=other"))
    with pytest.raises(
        RunError, match="no finished run in runs: metrics.json, which training writes last, is missing$"
    ):
        Run.find("runs")
    with pytest.raises(RunError, match="no run runs: .*; it holds the runs of several recipes; name one: runs/other$"):
        Run.find_unfinished("runs")
    finish(Run.create(tiny_recipe("runs_dir=runs")), trained)
    with pytest.raises(RunError, match="no finished run in runs: .*; it holds .* recipes; name one: runs/digits$"):
        Run.find("runs")


def test_a_finished_run_has_its_recipe_spec_metrics_and_weights(
    tiny_recipe: MakeRecipe, trained: Run, tmp_path: Path
) -> None:
    run = Run.create(tiny_recipe(f"runs_dir={tmp_path}"))
    finish(run, trained)
    found = Run.find(run.path)
    metrics = {"finished": found.finished_at.astimezone(UTC).isoformat(), "test": {"accuracy": 1}}
    assert (found.recipe.name, found.spec, found.metrics) == ("digits", trained.spec, metrics)
    assert load_file(run.path / "model.safetensors")["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert np.array_equal(found.parity_images, np.ones((2, 28, 28, 1), np.uint8))


def test_a_copied_run_keeps_the_date_of_its_training(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = Run.create(tiny_recipe(f"runs_dir={tmp_path}"))
    run.finish({}, make_spec(["a", "b"]), {"test": {}}, np.ones((2, 28, 28, 1), np.uint8))
    trained = run.finished_at
    assert abs((datetime.now(UTC) - trained).total_seconds()) < 60
    # As after a copy to another machine, some days later.
    os.utime(run.path / "metrics.json", (2e9, 2e9))
    assert Run(run.path).finished_at == trained


def test_a_metric_without_a_value_is_null_in_the_files_of_a_run(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = Run.create(tiny_recipe(f"runs_dir={tmp_path}"))
    metrics = {"epochs": [{"epoch": 1, "validation_map": math.nan}], "test": {"auc": math.inf}}
    run.finish({"weight": torch.zeros(1)}, make_spec(["a", "b"]), metrics, np.ones((2, 28, 28, 1), np.uint8))
    # Python's parser would read NaN, which others refuse.
    written = json.loads((run.path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert run.metrics == written
    del written["finished"]
    assert written == {"epochs": [{"epoch": 1, "validation_map": None}], "test": {"auc": None}}


def test_an_incomplete_run_names_the_missing_file(run: Run) -> None:
    (run.path / "spec.json").unlink()
    with pytest.raises(RunError, match=r"spec.json: No such file or directory; the run is not complete"):
        _ = run.spec


def test_a_run_folder_that_cannot_be_created_is_an_output_error(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot create a run in .*: Not a directory; set runs_dir"):
        Run.create(tiny_recipe(f"runs_dir={tmp_path / 'file'}"))


def test_a_run_knows_the_content_of_the_images_that_it_was_fitted_to(run: Run, digits: Path) -> None:
    data = load_data(run.recipe.data, run.recipe.train.seed)
    fitted = run.fitted_images
    assert set(content_hashes(data.train.images)) | set(content_hashes(data.validation.images)) == fitted
    assert not set(content_hashes(data.test.images)) & fitted
    (run.path / "images.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="images.safetensors cannot be read"):
        _ = run.fitted_images
    # As of a run from before they were saved.
    (run.path / "images.safetensors").unlink()
    assert run.fitted_images is None


def test_a_damaged_unfinished_or_missing_run_is_a_run_error(run: Run, tmp_path: Path) -> None:
    assert Run.find(run.path.parent).path == run.path
    (run.path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="model.safetensors cannot be loaded"):
        load_classifier(run)
    save_file({"images": np.zeros((2, 32, 32, 3), np.uint8)}, run.path / "parity.safetensors")
    with pytest.raises(RunError, match=r"parity.safetensors does not fit the run: it has uint8 \[2, 32, 32, 3\]"):
        _ = run.parity_images
    (run.path / "parity.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="parity.safetensors cannot be read"):
        _ = run.parity_images
    (run.path / "metrics.json").unlink()
    with pytest.raises(RunError, match="no finished run"):
        Run.find(run.path)
    with pytest.raises(RunError, match="there is no such folder"):
        Run.find(tmp_path / "none")
