"""The report of an evaluation."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tamiz import OutputError, RunError
from tamiz_train.data import Split
from tamiz_train.evaluation import Evaluation, evaluate, load_run_data
from tamiz_train.report import write_report
from tamiz_train.run import Run
from tamiz_train.weights import load_classifier


@pytest.fixture(scope="module")
def measured(trained: Run) -> Evaluation:
    return evaluate(load_classifier(trained), load_run_data(trained).test, trained.spec)


def test_the_report_is_one_page_that_contains_its_plots(measured: Evaluation, tmp_path: Path) -> None:
    page = write_report(measured, tmp_path / "report", "<b>digits</b> & more")
    text = page.read_text()
    assert "&lt;b&gt;digits&lt;/b&gt; &amp; more" in text
    assert "http" not in text
    plots = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(plots) == 3
    for plot in plots:
        assert cv2.imdecode(np.frombuffer(base64.b64decode(plot), np.uint8), cv2.IMREAD_COLOR).shape[0] > 100
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["metrics"] == measured.metrics
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.html",
        "metrics.json",
        "confusion_matrix.png",
        "reliability.png",
        "mistakes.png",
    }


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
