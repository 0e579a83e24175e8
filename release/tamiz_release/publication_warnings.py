"""Warnings before a publication: what makes it doubtful that this graph should become the next version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tamiz.errors import TamizError
from tamiz.spec import ModelSpec
from tamiz_server.repository import Repository
from tamiz_server.version import Version, summarize
from tamiz_train.run import Run

from .candidate import FP32


def version_warnings(repository: Repository, model: str, spec: ModelSpec, manifest: Mapping[str, Any]) -> list[str]:
    """Compare a graph that is about to be published with the versions of its model.

    Args:
        repository: the repository; it may not exist yet.
        model: name of the model; it may not exist yet.
        spec: spec of the graph.
        manifest: its manifest with the hash of the graph, see `tamiz_release.candidate`; without the entries of a run
            for a graph that has none.

    Returns:
        a line if a version is identical to it, and a line if its main test metric is below that of the live version.
    """
    versions = _versions(repository, model)
    hashes = [(name, manifest.get(name)) for name in ("onnx_sha256", "weights_sha256")]
    identical = [
        str(version.version)
        for version in versions
        if version.spec == spec
        and version.manifest.get("precision", FP32) == manifest.get("precision", FP32)
        and any(value and version.manifest.get(name) == value for name, value in hashes)
    ]
    warnings = [f"identical to version {', '.join(identical)} of {model}"] if identical else []
    for live in [version for version in versions if version.live][-1:]:
        warnings += _worse_than_live(live, manifest)
    return warnings


def _versions(repository: Repository, model: str) -> list[Version]:
    try:
        return repository.versions(model)
    except TamizError:
        # A new model has none. Of a damaged one, publishing itself gives the reason if it must fail.
        return []


def _worse_than_live(live: Version, manifest: Mapping[str, Any]) -> list[str]:
    own, other = (_test_metrics(document) for document in (manifest, live.manifest))
    metric = next(iter(own), None)
    if metric is None or metric not in other or own[metric] >= other[metric]:
        return []
    contents = [summarize(document)["test_images"] for document in (manifest, live.manifest)]
    same = contents[0] is not None and contents[0] == contents[1]
    images = "the same test images" if same else "other test images; `tamiz compare` measures both on the same ones"
    return [
        f"worse than the live version {live.version}: test {metric} {own[metric]:.4f}, that of the live version is "
        f"{other[metric]:.4f} on {images}"
    ]


def _test_metrics(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Test metrics of a manifest that have a value, the main one first."""
    metrics: dict[str, float | None] = (manifest.get("metrics") or {}).get("test") or {}
    return {name: value for name, value in metrics.items() if value is not None}


def run_warnings(run: Run) -> list[str]:
    """Compare a run with the other finished runs in its folder, on the validation images that they share.

    The validation images decide, because a choice by the test images would make their metrics too good.

    Returns:
        a line if another run has a higher main metric; no line for runs with other labels or validation images.
    """
    validation = run.contents.get("validation")
    metric, value = next(iter(run.metrics["validation"].items()), (None, 0.0))
    if metric is None or value is None or validation is None:
        return []
    rivals = []
    for folder in sorted(run.path.resolve().parent.iterdir()):
        rival = Run(folder)
        try:
            if rival.finished and rival.contents.get("validation") == validation:
                rivals.append((rival.metrics["validation"].get(metric) or 0.0, rival.path))
        except (TamizError, ValueError, LookupError):
            # A damaged run cannot be published instead.
            continue
    best, path = max(rivals, default=(value, run.path))
    if best <= value:
        return []
    better = run.path.parent / path.name
    return [
        f"not the best run of its folder: validation {metric} {value:.4f}, that of {better} is {best:.4f} on the same "
        "images"
    ]


def report_warnings(warnings: Iterable[str], on_progress: Callable[[str], None]) -> None:
    """Pass warnings on, each as a line that says that it is one."""
    for warning in warnings:
        on_progress(f"warning: {warning}")
