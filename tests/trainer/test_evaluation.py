"""Evaluation of the weights of a run, and of a served model."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from conftest import Served
from graphs import make_spec

from tamiz import Client, RunError
from tamiz_release import PublicationOptions
from tamiz_release.run_publication import publish_run
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, Mistake, evaluate_served
from tamiz_train.inference import evaluate, predict
from tamiz_train.recipe import Recipe
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data
from tamiz_train.training import train
from tamiz_train.weights import load_classifier


@pytest.fixture(scope="module")
def measured(trained: Run) -> Evaluation:
    return evaluate(load_classifier(trained), load_run_data(trained).test, trained.spec)


def test_the_metrics_are_those_of_training(measured: Evaluation, trained: Run) -> None:
    assert measured.metrics == pytest.approx(trained.metrics["test"], abs=1e-5)
    assert sum(figures.support for figures in measured.classes) == 360
    assert measured.confusion_matrix.sum() == 360
    assert len(measured.mistakes) == 360 - np.trace(measured.confusion_matrix)


def test_mistakes_have_the_predicted_and_the_true_label_and_the_most_confident_is_first(measured: Evaluation) -> None:
    confidences = [mistake.confidence for mistake in measured.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for mistake in measured.mistakes:
        path = measured.split.images[mistake.index]
        assert path.parent.name == mistake.true != mistake.predicted


def test_a_large_photograph_is_preprocessed_as_a_client_preprocesses_it(trained: Run, tmp_path: Path) -> None:
    """Since preprocessing revision 2 such a file is decoded at a smaller size, which gives other pixels."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.jpg" for number in range(8)]
    for path in paths:
        cv2.imwrite(str(path), random.integers(0, 256, (200, 300), np.uint8))
    measured = evaluate(load_classifier(trained), Split("test", paths, np.zeros(8, np.int64)), trained.spec)
    for row, prediction in zip(measured.probabilities, predict(trained, paths, top_k=10), strict=True):
        scores = {scored.label: scored.score for scored in prediction.top}
        assert [scores[label] for label in trained.spec.labels] == pytest.approx(row.tolist(), abs=1e-6)


def test_a_drawn_split_is_evaluated_after_images_were_added_unless_images_changed_their_splits(
    digits: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(digits / "train", tmp_path / "digits" / "train")).parent
    run = train(tiny_recipe(f"data.root={root}", "train.epochs=1", f"runs_dir={tmp_path / 'runs'}"))
    assert len(load_run_data(run).test) == run.metrics["images"]["test"]
    for path in sorted((digits / "test" / "3").iterdir()):
        shutil.copy(path, root / "train" / "3" / f"new-{path.name}")
    assert len(load_run_data(run).test) > run.metrics["images"]["test"]
    recipe = yaml.safe_load((run.path / "recipe.yaml").read_text())
    recipe["train"]["seed"] += 1
    (run.path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(RunError, match="test now has images of another split of the run; restore the images, or"):
        load_run_data(Run(run.path), ["test"])
    # A split with a folder of its own may change.
    shutil.copytree(digits / "test", root / "test")
    load_run_data(Run(run.path), ["test"])


def test_the_summary_names_the_best_and_the_worst_recognised_label(measured: Evaluation) -> None:
    by_f1 = sorted(measured.classes, key=lambda figures: figures.f1)
    assert f"best recognised: {by_f1[-1].label} (F1 {by_f1[-1].f1:.3f})" in measured.summary
    assert re.search(rf"worst recognised: {by_f1[0].label} .*most often predicted as \d: \d+ of \d+", measured.summary)


def test_a_served_model_is_evaluated_with_the_same_code(
    run: Run, trained: Run, measured: Evaluation, served: Served
) -> None:
    name = served.new_name()
    publish_run(run, served.repository, options=PublicationOptions(control=served.control), model=name)
    with Client(served.triton.url, model=name) as client:
        answered = evaluate_served(client, measured.split, trained.spec)
    assert answered.differences(measured) == 0
    assert answered.metrics == pytest.approx(measured.metrics, abs=1e-4)
    # Other predictions, and an image that only one model could read, are differences.
    other = measured.probabilities.copy()
    other[3] = np.roll(other[3], 1)
    changed = Evaluation(measured.split, measured.spec, other, measured.indices, ())
    assert answered.differences(changed) == 1
    fewer = Evaluation(measured.split, measured.spec, measured.probabilities[1:], measured.indices[1:], ())
    assert answered.differences(fewer) == 1
    with Client(served.triton.url, model="grey") as client, pytest.raises(RunError, match="grey version 1 has the lab"):
        evaluate_served(client, measured.split, trained.spec)


def test_the_mistake_of_a_multilabel_image_is_its_most_confident_wrong_label() -> None:
    spec = make_spec(["a", "b"], task="multilabel", thresholds=(0.5, 0.5))
    targets = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    probabilities = np.array([[0.9, 0.1], [0.25, 0.625], [0.25, 0.125]], np.float32)
    split = Split("test", np.zeros((3, 28, 28), np.uint8), targets)
    evaluation = Evaluation(split, spec, probabilities, np.arange(3), ())
    assert evaluation.mistakes == [
        Mistake(2, "test[2]", "no b", "yes", 0.875),
        Mistake(1, "test[1]", "no a", "yes", 0.75),
    ]
    document = evaluation.to_dict()
    assert document["confusion_matrix"] == [[[1, 0], [1, 1]], [[1, 1], [1, 0]]]
    assert (document["unreadable"], document["classes"][0]["label"]) == (0, "a")


def test_a_run_is_not_evaluated_on_data_with_other_labels(
    run: Run, digits: Path, tamiz: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(digits, root)
    (root / "train" / "3").rename(root / "train" / "three")
    (root / "test" / "3").rename(root / "test" / "three")
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(digits), str(root)))
    done = tamiz("evaluate", run.path)
    assert done.returncode == 1
    assert "now has the labels 0, 1, 2, 4" in done.stderr
    # The same without the recorded data, as in runs from before data was recorded.
    (run.path / "data.json").unlink()
    with pytest.raises(RunError, match="now has the labels 0, 1, 2, 4"):
        load_run_data(run)
