"""Performance of a version: the figures that the gate measured before it was published, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tamiz_server import Version

from .schemas import ClassPerformance, PerformanceMetrics, PerformanceReply

MAX_LABELS = 2_000
"""With more labels the confusion matrix is left out of the reply, which would be larger than 4 million numbers."""


def read_performance(version: Version) -> PerformanceReply:
    """The figures of a version."""
    gate = _mapping(version.manifest.get("gate"))
    metrics = read_metrics(version)
    classes = gate.get("classes") or None
    return PerformanceReply(
        model_id=f"{version.model}/{version.version}",
        performance_metrics=PerformanceMetrics(
            accuracy=metrics.get("accuracy", metrics.get("subset_accuracy")),
            precision=metrics.get("precision"),
            recall=metrics.get("recall"),
            f1_score=metrics.get("f1", metrics.get("f1_macro")),
        ),
        per_class_metrics=None if classes is None else read_classes(classes),
        confusion_matrix=_dense(gate.get("confusion_matrix") or [], len(version.spec.labels)),
        class_names=list(version.spec.labels),
    )


def read_classes(classes: Sequence[Mapping[str, Any]]) -> dict[str, ClassPerformance]:
    """The figures of each label, as the gate's report lists them."""
    return {
        each["label"]: ClassPerformance(
            precision=each["precision"], recall=each["recall"], f1_score=each["f1"], support=each["support"]
        )
        for each in classes
    }


def read_metrics(version: Version) -> Mapping[str, Any]:
    """The metrics of a version: those of the gate, otherwise those of its run on the test images; may be empty."""
    gate = _mapping(version.manifest.get("gate"))
    run = _mapping(version.manifest.get("metrics"))
    return _mapping(gate.get("metrics")) or _mapping(run.get("test"))


def _dense(entries: list[list[int]], labels: int) -> list[list[int]] | None:
    if not entries or labels > MAX_LABELS:
        return None
    matrix = [[0] * labels for _ in range(labels)]
    for true, predicted, images in entries:
        matrix[true][predicted] = images
    return matrix


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
