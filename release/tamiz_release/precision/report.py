"""The report of an exported precision: what was measured, which nodes stay in FP32 and why; kept in precision.json.

It is also the memory of the search: a report with the same key belongs to a graph that need not be searched again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamiz.errors import list_names
from tamiz.files import sha256, write_whole
from tamiz.json_text import to_json

from .choice import Choice

REPORT_FILE = "precision.json"

_MOST_PARTS = 12
"""Largest number of parts in FP32 that the lines of text name; the JSON document has all of them."""


def make_report(choice: Choice, path: Path, key: Mapping[str, Any], budget_s: float) -> dict[str, Any]:
    """The report of a graph, which JSON can hold.

    Args:
        choice: the graph.
        path: path of its ONNX file.
        key: what the result depends on.
        budget_s: time budget of the search in seconds.
    """
    return {
        "file": path.name,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "key": dict(key),
        "setting": choice.setting,
        "float_parts": [
            {"name": part.name, "reason": part.reason, "nodes": sorted(part.nodes)} for part in choice.parts
        ],
        "speed_ratios": {str(size): ratio for size, ratio in choice.speeds.items()},
        "accuracy": choice.accuracy.to_dict(),
        "images": choice.images,
        "seconds": choice.seconds,
        "budget_s": budget_s,
        "complete": choice.complete,
        "left_out": list(choice.left_out),
    }


def describe_report(report: Mapping[str, Any]) -> list[str]:
    """The lines of a report for people: accuracy, speed, what stays in FP32, and a warning where it is slower."""
    accuracy = report["accuracy"]
    metric = accuracy["metric"]
    lost = "" if metric is None else f"{metric} {accuracy['value']:.4f} ({accuracy['loss_points']:.2f} points lost), "
    lines = [
        f"beside FP32: {lost}labels agree on {accuracy['agreement']:.2%} of {accuracy['images']:,} images, the largest "
        f"difference of two probabilities is {accuracy['largest_difference']:.3f}",
        f"images: {report['images']}",
    ]
    ratios = report["speed_ratios"]
    if ratios:
        by_batch = ", ".join(f"{ratio:.2f} × FP32 with a batch of {size}" for size, ratio in ratios.items())
        lines.append(f"speed on one thread of this machine: {by_batch}")
        if statistics.geometric_mean(ratios.values()) < 1:
            lines.append("warning: it is slower than FP32 on this machine")
    parts = report["float_parts"]
    lines += [f"in FP32: {part['name']} ({part['reason']})" for part in parts[:_MOST_PARTS]]
    if len(parts) > _MOST_PARTS:
        lines.append(f"in FP32: {len(parts) - _MOST_PARTS} more parts; {REPORT_FILE} names them")
    if left_out := report.get("left_out"):
        lines.append(f"left out for lack of time, which --budget gives: {list_names(left_out)}")
    return lines


def read_report(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the report of a precision from the folder of a run; None if there is none that can be read."""
    report = _read(folder).get(name)
    return report if isinstance(report, dict) else None


def write_report(folder: Path, name: str, report: Mapping[str, Any]) -> None:
    """Add the report of a precision to the folder of a run; it replaces an earlier one.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(folder / REPORT_FILE, to_json(_read(folder) | {name: report}, indent=2))


def still_holds(report: Mapping[str, Any], key: Mapping[str, Any], path: Path, budget_s: float) -> bool:
    """Whether the graph of a report is the one that a search would find again.

    Args:
        report: the report.
        key: what the result depends on, today.
        path: path of the ONNX file.
        budget_s: time budget of the search in seconds; a larger one may find a faster graph.
    """
    # As JSON gives it back.
    same = report.get("key") == json.loads(to_json(dict(key)))
    enough = bool(report.get("complete")) or budget_s <= float(report.get("budget_s", 0))
    return same and enough and path.is_file() and sha256(path) == report.get("sha256")


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # It is only a memory: without it, the search is repeated.
        return {}
    return document if isinstance(document, dict) else {}
