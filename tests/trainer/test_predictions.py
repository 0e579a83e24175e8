"""All predictions of an evaluation as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from graphs import make_spec

from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation
from tamiz_train.predictions import write_predictions


def rows_of(evaluation: Evaluation, path: Path) -> list[dict[str, str]]:
    write_predictions(evaluation, path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_has_a_row_also_one_that_could_not_be_read(tmp_path: Path) -> None:
    split = Split("test", [Path("a.png"), Path("b.png"), Path("c.png")], np.array([0, 1, 1]))
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
    evaluation = Evaluation(split, make_spec(["cat", "dog"]), probabilities, np.array([0, 2]), ("b.png: damaged",))
    first, second, third = rows_of(evaluation, tmp_path / "predictions.csv")
    assert first == {
        "path": "a.png",
        "true": "cat",
        "predicted": "cat",
        "score": "0.75",
        "correct": "1",
        "error": "",
        "probability:cat": "0.75",
        "probability:dog": "0.25",
    }
    assert (second["path"], second["true"], second["predicted"], second["correct"]) == ("b.png", "dog", "", "")
    assert second["error"] == "b.png: damaged"
    assert (third["predicted"], third["correct"]) == ("cat", "0")


def test_several_labels_of_an_image_are_joined(tmp_path: Path) -> None:
    spec = make_spec(["a", "b", "c"], task="multilabel", thresholds=(0.5, 0.5, 0.5))
    targets = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
    split = Split("test", np.zeros((2, 28, 28), np.uint8), targets)
    probabilities = np.array([[0.9, 0.625, 0.1], [0.1, 0.2, 0.3]], np.float32)
    first, second = rows_of(Evaluation(split, spec, probabilities, np.arange(2), ()), tmp_path / "predictions.csv")
    assert (first["path"], first["true"], first["predicted"], first["score"], first["correct"]) == (
        "test[0]",
        "a|b",
        "a|b",
        "0.625",
        "1",
    )
    assert (second["true"], second["predicted"], second["score"], second["correct"]) == ("", "", "", "1")
