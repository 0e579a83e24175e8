"""The images by which a precision is chosen."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tamiz import RunError
from tamiz_release.precision.images import CALIBRATION_IMAGES, load_images, spread_over_labels
from tamiz_train.data import load_data
from tamiz_train.run import PARITY_FILE, Run


def test_the_labels_take_turns_however_many_images_they_have() -> None:
    targets = np.array([0] * 90 + [1] * 8 + [2] * 2)
    order = list(spread_over_labels(targets))
    assert sorted(order) == list(range(100))
    assert Counter(targets[order[:6]].tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(targets[order[:18]].tolist()) == {0: 8, 1: 8, 2: 2}
    assert list(spread_over_labels(targets)) == order, "the same in each run"


def test_the_labels_of_multilabel_images_take_turns_and_each_image_comes_once() -> None:
    targets = np.zeros((50, 3), np.float32)
    targets[:, 0] = 1
    targets[7, 1] = targets[9, 2] = targets[10, 2] = 1
    targets[20] = 0
    order = list(spread_over_labels(targets))
    assert sorted(order) == list(range(50))
    assert order[0] == 7
    assert order[1] in {9, 10}
    assert 20 in order


def test_training_images_calibrate_and_validation_images_measure_with_their_labels(trained: Run) -> None:
    images, problem = load_images(trained)
    assert problem is None
    assert len(images.calibration) == CALIBRATION_IMAGES
    assert images.calibration.shape[1:] == images.validation.shape[1:] == trained.spec.preprocessing.shape
    data = load_data(trained.recipe.data, trained.recipe.train.seed)
    assert images.targets is not None
    assert len(images.targets) == len(images.validation) == len(data.validation)
    assert sorted(images.targets) == sorted(data.validation.targets)
    assert images.describe() == "calibrated on 128 training images; measured on 207 validation images"


def test_calibration_images_are_spread_over_the_labels(trained: Run) -> None:
    images, _ = load_images(trained)
    labels = {image.tobytes(): None for image in images.calibration}
    assert len(labels) == CALIBRATION_IMAGES, "each image once"


def without_data(run: Run, tmp_path: Path) -> Run:
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(run.recipe.data.root), str(tmp_path / "none")))
    return Run(run.path)


def test_without_the_data_the_images_that_the_run_keeps_take_its_place_and_a_line_says_so(
    run: Run, tmp_path: Path
) -> None:
    images, problem = load_images(without_data(run, tmp_path))
    assert problem is not None
    assert "the data of the run is not on this machine" in problem
    assert "calibrated on 104 validation images that the run keeps; measured on 103 validation images" in problem
    assert "\n" not in problem
    assert images.targets is None
    assert run.parity_images is not None
    kept = {image.tobytes() for image in run.parity_images}
    used = [image.tobytes() for image in [*images.calibration, *images.validation]]
    assert set(used) == kept
    assert len(used) == 207, "no image has both tasks"


def test_data_that_has_changed_since_training_is_not_used(run: Run, digits: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(digits, tmp_path / "digits"))
    next((copy / "train").rglob("*.png")).unlink()
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(digits), str(copy)))
    images, problem = load_images(Run(run.path))
    assert problem is not None
    assert f"images are in {copy}" in problem
    assert images.targets is None


def test_a_run_without_data_and_without_kept_images_is_an_error_with_the_remedy(run: Run, tmp_path: Path) -> None:
    (run.path / PARITY_FILE).unlink()
    with pytest.raises(RunError, match="keeps no validation images; export it where its data is, or restore the data"):
        load_images(without_data(run, tmp_path))
