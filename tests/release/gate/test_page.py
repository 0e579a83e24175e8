"""The files of a gate report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from graphs import make_spec

from tamiz import OutputError
from tamiz_release import Comparison, GateCheck, GateLimits, GateReport
from tamiz_release.gate.agreement import measure_agreement
from tamiz_release.gate.latency import Latency
from tamiz_release.gate.live import LiveFigures
from tamiz_release.gate.page import render_gate_page, write_gate_report
from tamiz_train.evaluation import Evaluation
from tamiz_train.labelled_images import LabelledImages

LABELS = ["cat", "<script>alert(1)</script>"]
IMAGES = LabelledImages("test", [np.zeros((2, 2), np.uint8)] * 3, [(LABELS[0],), (LABELS[1],), (LABELS[1],)])


def make_report(**changes: object) -> GateReport:
    spec = make_spec(LABELS, height=2, width=2)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    evaluation = Evaluation(IMAGES.to_split(spec), spec, probabilities, np.arange(3), ())
    report = GateReport(
        model="pets",
        candidate="model.onnx (int8)",
        precision="int8",
        accelerators={},
        onnx_sha256="0" * 64,
        size=2_500_000,
        reference="runs/pets",
        images=3,
        origin="test images",
        limits=GateLimits(),
        checks=(GateCheck("accuracy_drop", True, "accuracy is fine", 0.0, 0.005),),
        agreement=measure_agreement(evaluation, evaluation, labelled=True),
        metrics=evaluation.metrics,
        latency=Latency(3.0, 8, 1.5),
        live=LiveFigures(4, Comparison(IMAGES, evaluation, evaluation), "", Latency(4.0, 4, 2.0), 5_000_000),
        notes=("only 3 images: the figures are rough",),
        measured="2026-01-01T00:00:00+00:00",
        machine={"processor": "a processor"},
    )
    return replace(report, **changes)


class Text(HTMLParser):
    """The text of a page, without its markup."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def __str__(self) -> str:
        return " ".join(" ".join(self.parts).split())


def test_the_page_has_the_verdict_and_all_figures_and_needs_no_other_file() -> None:
    page = render_gate_page(make_report())
    text = str(Text(page))
    for expected in (
        "Gate: pets",
        "Passed: all 1 checks are within their limits.",
        "Candidate: model.onnx (int8) , 2.5 MB.",
        "Reference: runs/pets",
        "Measured on 3 images: test images",
        "only 3 images",
        "accuracy is fine",
        "accuracy 0.6667 0.6667",
        "ms for one image 3.00 4.00",
        "best batch size 8 4",
        "size in MB 2.5 5.0",
        "Accuracy beside the live version 4",
        "live_drop 0.005",
    ):
        assert expected in text, (expected, text)
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_labels_and_reasons_are_text_and_no_markup() -> None:
    forced = "it is <b>urgent</b>"
    page = render_gate_page(make_report(checks=(GateCheck("labels", False, "<i>other</i>"),), forced=forced))
    assert "<script>" not in page
    assert "<b>urgent" not in page
    assert f"Published although 1 of 1 checks failed. Reason: {forced}" in str(Text(page))


def test_a_failure_is_said_first() -> None:
    report = make_report(checks=(GateCheck("labels", False, "other labels"),))
    assert "Failed: 1 of 1 checks. Nothing was published." in str(Text(render_gate_page(report)))


def test_a_report_without_images_reference_and_live_version_is_a_page_too() -> None:
    report = make_report(agreement=None, metrics={}, latency=None, live=None, reference=None, images=0, notes=())
    text = str(Text(render_gate_page(report)))
    assert "Passed: all 1 checks" in text
    assert "There was no reference to compare it with." in text
    not_compared = make_report(live=LiveFigures(4, None, "other labels", None, 1))
    assert "Not compared: other labels ." in str(Text(render_gate_page(not_compared)))


def test_the_files_hold_the_same_report(tmp_path: Path) -> None:
    report = make_report()
    page = write_gate_report(report, tmp_path / "gate")
    assert page.read_text(encoding="utf-8") == render_gate_page(report)
    document = json.loads((tmp_path / "gate" / "gate.json").read_text())
    assert document["verdict"] == "passed"
    assert document["checks"] == [
        {"name": "accuracy_drop", "passed": True, "text": "accuracy is fine", "value": 0.0, "limit": 0.005}
    ]
    assert document["live"]["comparison"]["right"] == {"both": 2, "only_live": 0, "only_candidate": 0, "neither": 1}
    assert document["live"]["comparison"]["candidate"] == document["metrics"]["accuracy"]
    assert document["agreement"]["label_agreement"] == 1


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_gate_report(make_report(), tmp_path / "gate")


def test_the_summary_is_a_few_lines_with_the_verdict_first() -> None:
    assert make_report().summary() == [
        "passed: 3 test images, label agreement 1.0000, largest difference 0.0e+00, accuracy 0.6667 (reference 0.6667)",
        "3.00 ms for one image, 1.50 ms per image of a batch of 8, 2.5 MB; the live version 4: 4.00 ms, 2.00 ms of a "
        "batch of 4, 5.0 MB",
        "accuracy +0.00 points against live version 4 (95 % interval -47.14 to +47.14) on 3 images",
    ]
    failed = make_report(checks=(GateCheck("labels", False, "other labels"),), live=None, forced="we know")
    assert failed.summary()[:2] == [
        "forced: we know: 3 test images, label agreement 1.0000, largest difference 0.0e+00, accuracy 0.6667 "
        "(reference 0.6667)",
        "failed: other labels",
    ]


def test_the_figures_for_tracking_are_numbers_by_name() -> None:
    figures = make_report().figures()
    assert figures["passed"] == 1
    assert figures["difference_to_live"] == 0
    assert {"accuracy", "label_agreement", "probability_difference", "latency_ms"} < set(figures)
    assert all(isinstance(value, float) for value in figures.values())


def test_a_session_that_was_not_run_is_said_before_all_figures() -> None:
    report = make_report(not_run="tensorrt: this machine has no NVIDIA GPU", latency=None)
    page = render_gate_page(report)
    assert "Passed on the CPU alone: all 1 checks" in page
    assert "<strong>The session that serves it was not run</strong>" in page
    assert "tensorrt: this machine has no NVIDIA GPU" in page
    assert "was computed in the session that serves it" not in page
    assert "not run" not in render_gate_page(make_report())


def test_a_report_that_measured_nothing_does_not_say_passed() -> None:
    reason = "there are no images; measure it with --images FOLDER"
    report = make_report(not_measured=reason, agreement=None, metrics={}, live=None, images=0, notes=())
    page = render_gate_page(report)
    assert f"Not measured: {reason}" in str(Text(page))
    assert 'class="verdict passed"' not in page
    assert (report.to_dict()["verdict"], report.to_dict()["passed"]) == ("not measured", False)
    assert (report.to_dict()["not_measured"], report.figures()["passed"]) == (reason, 0)
