"""The report of an exported precision, and when it still holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tamiz_release.precision.accuracy import Accuracy
from tamiz_release.precision.choice import Choice
from tamiz_release.precision.report import describe_report, make_report, read_report, still_holds, write_report
from tamiz_release.precision.rescue import Part

ACCURACY = Accuracy(200, 0.995, 0.01, 0.125, True, "accuracy", 0.92, 0.925)
PARTS = (Part("the first 2 layers", frozenset({"b", "a"}), "2.00 × FP32 instead of 1.40"),)
CHOICE = Choice({"method": "minmax"}, PARTS, {1: 1.9, 8: 2.1}, ACCURACY, "calibrated on 9 images", 12.0, ())
KEY = {"graph_sha256": "0f", "machine": {"instructions": ["avx2"]}, "max_loss_points": 0.5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.int8.onnx"
    path.write_bytes(b"graph")
    return path


def report(path: Path, **changes: Any) -> dict[str, Any]:
    return make_report(replace(CHOICE, **changes), path, KEY, 60.0)


def test_a_report_names_what_was_measured_and_what_stays_in_fp32(path: Path) -> None:
    document = json.loads(json.dumps(report(path)))
    assert (document["file"], document["bytes"]) == ("model.int8.onnx", 5)
    assert document["speed_ratios"] == {"1": 1.9, "8": 2.1}
    assert document["float_parts"] == [
        {"name": "the first 2 layers", "reason": "2.00 × FP32 instead of 1.40", "nodes": ["a", "b"]}
    ]
    assert document["accuracy"]["loss_points"] == pytest.approx(0.5)
    assert describe_report(document) == [
        "beside FP32: accuracy 0.9200 (0.50 points lost), labels agree on 99.50% of 200 images, the largest difference "
        "of two probabilities is 0.125",
        "images: calibrated on 9 images",
        "speed on one thread of this machine: 1.90 × FP32 with a batch of 1, 2.10 × FP32 with a batch of 8",
        "in FP32: the first 2 layers (2.00 × FP32 instead of 1.40)",
    ]


def test_a_graph_that_is_slower_than_fp32_is_warned_of(path: Path) -> None:
    assert "warning: it is slower than FP32 on this machine" in describe_report(report(path, speeds={1: 0.6, 8: 1.1}))
    assert not any("warning" in line for line in describe_report(report(path, speeds={1: 0.9, 8: 1.5})))


def test_a_graph_for_other_hardware_has_no_speed(path: Path) -> None:
    assert not any("speed" in line for line in describe_report(report(path, speeds={})))


def test_many_parts_are_counted_and_all_are_in_the_document(path: Path) -> None:
    parts = tuple(Part(f"block {number}", frozenset({str(number)}), "accuracy") for number in range(20))
    document = report(path, parts=parts)
    assert describe_report(document)[-1] == "in FP32: 8 more parts; precision.json names them"
    assert len(document["float_parts"]) == 20


def test_reports_of_several_precisions_are_kept_side_by_side_and_replaced_one_by_one(path: Path) -> None:
    write_report(path.parent, "int8", report(path))
    write_report(path.parent, "fp16", {"file": "model.fp16.onnx"})
    write_report(path.parent, "fp16", {"file": "other"})
    assert read_report(path.parent, "int8") == json.loads(json.dumps(report(path)))
    assert read_report(path.parent, "fp16") == {"file": "other"}
    assert read_report(path.parent, "int8-tensorrt") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"int8": 3}', "\x00"])
def test_a_damaged_document_is_as_if_there_were_none(path: Path, content: str) -> None:
    (path.parent / "precision.json").write_text(content)
    assert read_report(path.parent, "int8") is None
    write_report(path.parent, "int8", report(path))
    assert read_report(path.parent, "int8") is not None


def test_a_graph_is_not_searched_again_while_nothing_has_changed(path: Path) -> None:
    write_report(path.parent, "int8", report(path))
    kept = read_report(path.parent, "int8")
    assert kept is not None
    assert still_holds(kept, KEY, path, 60.0)
    assert still_holds(kept, KEY, path, 600.0), "the search was complete"
    for changed in (KEY | {"graph_sha256": "1e"}, KEY | {"machine": {}}, KEY | {"max_loss_points": 0.1}):
        assert not still_holds(kept, changed, path, 60.0)


def test_a_search_that_ran_out_of_time_is_repeated_only_with_more_of_it(path: Path) -> None:
    short = report(path, left_out=("all Clip in FP32",))
    assert describe_report(short)[-1] == "left out for lack of time, which --budget gives: all Clip in FP32"
    assert still_holds(short, KEY, path, 60.0)
    assert still_holds(short, KEY, path, 30.0)
    assert not still_holds(short, KEY, path, 61.0)


def test_a_graph_that_was_removed_or_changed_is_searched_again(path: Path) -> None:
    kept = report(path)
    path.write_bytes(b"other")
    assert not still_holds(kept, KEY, path, 60.0)
    path.unlink()
    assert not still_holds(kept, KEY, path, 60.0)


def test_a_report_without_its_entries_does_not_hold(path: Path) -> None:
    assert not still_holds({}, KEY, path, 60.0)
