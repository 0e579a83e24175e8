"""The report of an evaluation."""

from __future__ import annotations

import base64
import csv
import json
import os
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import markupsafe
import numpy as np
import pytest
from graphs import make_spec
from labels import HOSTILE_LABELS

from tamiz import OutputError, RunError
from tamiz.console import printable, printable_line
from tamiz.path_text import path_to_text, text_to_path
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation
from tamiz_train.inference import evaluate
from tamiz_train.metrics import MEANINGS, compute_metrics
from tamiz_train.report import write_report
from tamiz_train.run import Run
from tamiz_train.run_data import load_run_data
from tamiz_train.weights import load_classifier


@pytest.fixture(scope="module")
def measured(trained: Run) -> Evaluation:
    return evaluate(load_classifier(trained), load_run_data(trained).test, trained.spec)


def test_the_report_is_one_page_that_contains_its_plots(measured: Evaluation, trained: Run, tmp_path: Path) -> None:
    page = write_report(measured, tmp_path / "report", "<b>digits</b> & more", trained)
    text = page.read_text()
    assert "&lt;b&gt;digits&lt;/b&gt; &amp; more" in text
    assert not re.search(r"https?://|src=(?!.data:)|href=|@import|url\(", text)
    plots = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(plots) == 4
    for plot in plots:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(plot), np.uint8), cv2.IMREAD_COLOR).shape[0] > 100
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["metrics"] == measured.metrics
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html",
        "metrics.json",
        "confusion_matrix.png",
        "reliability.png",
        "mistakes.png",
        "training.png",
        "predictions.csv",
    }


def test_mistakes_have_the_paths_of_their_images(measured: Evaluation, tmp_path: Path) -> None:
    text = write_report(measured, tmp_path, "x").read_text()
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["mistakes"] == len(measured.mistakes) > 1
    with (tmp_path / "predictions.csv").open(newline="") as file:
        wrong = {row["path"]: row for row in csv.DictReader(file) if row["correct"] == "0"}
    assert len(wrong) == len(measured.mistakes)
    for mistake, listed in zip(measured.mistakes[:20], document["most_confident_mistakes"][:20], strict=True):
        assert Path(listed["image"]).is_file()
        assert f"<bdi>{listed['image']}</bdi>" in text
        assert wrong[mistake.image]["predicted"] == mistake.predicted


def test_the_page_of_a_run_has_its_date_its_recipe_and_the_plot_of_its_training(
    measured: Evaluation, trained: Run, tmp_path: Path
) -> None:
    text = write_report(measured, tmp_path, "x", trained).read_text()
    assert f"trained {trained.finished_at:%Y-%m-%d}" in text
    assert "batch_size: 64" in text
    assert "<h2>Training</h2>" in text
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert (document["run"], document["recipe"]) == (str(trained.path), "digits")
    assert datetime.fromisoformat(document["evaluated"]).tzinfo is not None


def test_every_metric_is_explained() -> None:
    several = make_spec(["a", "b"], task="multilabel", thresholds=(0.5, 0.5))
    probabilities = np.array([[0.9, 0.2], [0.1, 0.7]], np.float32)
    single = compute_metrics(probabilities, np.array([0, 1]), make_spec(["a", "b"]))
    assert {*single, *compute_metrics(probabilities, np.eye(2, dtype=np.float32), several)} == set(MEANINGS)


def test_every_kind_of_label_is_reported_and_stays_as_it_is(tmp_path: Path) -> None:
    labels = list(HOSTILE_LABELS.values())
    images = [tmp_path / os.fsdecode(b"image-\xff-%d.png" % index) for index in range(len(labels))]
    for image in images:
        image.write_bytes(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes())
    random = np.random.default_rng(0).random((len(labels), len(labels))).astype(np.float32)
    split = Split("test", images, np.arange(len(labels)))
    evaluation = Evaluation(split, make_spec(labels), random, np.arange(len(labels)), ())
    text = write_report(evaluation, tmp_path / "report", "<$x$> \x1b").read_text(encoding="utf-8")
    for label in labels:
        assert str(markupsafe.escape(printable_line(label))) in text
    assert "<script>" not in text
    assert printable(text) == text
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert [figures["label"] for figures in document["classes"]] == labels
    assert {mistake["image"] for mistake in document["most_confident_mistakes"]} <= set(map(path_to_text, images))
    with (tmp_path / "report" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(text_to_path(row["path"]), row["true"]) for row in rows] == list(
        zip(map(str, images), labels, strict=True)
    )


def test_every_kind_of_label_is_reported_for_several_labels_per_image(tmp_path: Path) -> None:
    labels = list(HOSTILE_LABELS.values())
    spec = make_spec(labels, task="multilabel", thresholds=(0.5,) * len(labels))
    targets = np.eye(len(labels), dtype=np.float32)
    pixels = np.zeros((len(labels), 8, 8), np.uint8)
    split = Split("test", pixels, targets)
    evaluation = Evaluation(split, spec, 1 - targets, np.arange(len(labels)), ())
    write_report(evaluation, tmp_path / "report", "x")
    document = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert document["most_confident_mistakes"][0]["image"] == "test[0]"


def test_a_metric_without_a_value_is_null_in_json(tmp_path: Path) -> None:
    spec = make_spec(("cat", "dog"), task="multilabel", thresholds=(0.5, 0.5))
    # No label has images with it and images without it, of which a ranking could be measured.
    split = Split("test", np.zeros((2, 8, 8), np.uint8), np.array([[1, 0], [1, 0]], np.float32))
    evaluation = Evaluation(split, spec, np.full((2, 2), 0.7, np.float32), np.arange(2), ())
    page = write_report(evaluation, tmp_path / "report", "x")
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text(), parse_constant=pytest.fail)["metrics"]
    assert (metrics["map"], metrics["auc"]) == (None, None)
    assert metrics["f1_micro"] == pytest.approx(2 / 3)
    assert "nan" in page.read_text(encoding="utf-8")


def test_the_page_lists_unreadable_images_up_to_a_limit(measured: Evaluation, tmp_path: Path) -> None:
    messages = tuple(f"{number}.png: not an image" for number in range(103))
    text = write_report(replace(measured, unreadable=messages), tmp_path / "report", "x").read_text()
    assert "; 103 more could not be read" in text
    assert text.count(": not an image") == 100
    assert "and 3 more" in text


def test_an_evaluation_without_images_has_no_report(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"damaged")
    split = Split("test", [tmp_path / "damaged.png"], np.zeros(1, np.int64))
    nothing = evaluate(load_classifier(trained), split, trained.spec)
    assert (nothing.images, nothing.metrics, len(nothing.unreadable)) == (0, {}, 1)
    with pytest.raises(RunError, match="no image of the split test could be read"):
        write_report(nothing, tmp_path / "report", "x")


def test_a_folder_that_cannot_be_created_is_an_output_error(measured: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/report: cannot be written: Not a directory"):
        write_report(measured, tmp_path / "file" / "report", "x")
