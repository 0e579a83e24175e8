"""The gate before a version is published: is the candidate what its reference is, and no worse than the live version?

It measures through the session that will serve the candidate, because some that are fast compute something else: on the
same graph, another runtime, thread count or batch size can give other answers. A session that needs a GPU which this
machine lacks is not run: the graph is measured on the CPU, its speed is not judged, and the report says so.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tamiz import __version__
from tamiz.arguments import check_function, check_instance, check_progress, check_text, check_type
from tamiz.errors import ExportError, GateError
from tamiz_server.serving_session import open_serving_session
from tamiz_train.evaluation import Evaluation, evaluate_function

from ..candidate import Candidate
from ..sources.base import ModelSource
from .agreement import Agreement, count_non_finite, find_label_problem, finite, measure_agreement
from .checks import FEW_IMAGES, check_agreement, check_finite, check_live, check_overflows
from .images import GateImages
from .latency import Latency, measure_latencies
from .limits import DEFAULT_LIMITS, GateLimits
from .live import LiveFigures, LiveModel, measure_live
from .overflow import find_overflows
from .report import GateCheck, GateReport
from .served_graph import OpenSession, ServedGraph


def run_gate(
    candidate: Candidate,
    reference: ModelSource | None,
    images: GateImages | None,
    *,
    model: str,
    config: Mapping[str, Any],
    live: LiveModel | None = None,
    limits: GateLimits = DEFAULT_LIMITS,
    open_session: OpenSession = open_serving_session,
    on_progress: Callable[[str], None] = lambda line: None,
) -> GateReport:
    """Measure a candidate, through the session that will serve it.

    Args:
        candidate: the candidate.
        reference: what it must agree with: the network of the run, or the graph that it was made from; None if neither
            is at hand.
        images: the images; None measures on no images.
        model: name of the model that the candidate becomes a version of.
        config: ``config.pbtxt`` as JSON, with which the candidate will be served.
        live: the live version; None if the model has none.
        limits: the limits.
        open_session: opens the sessions of the candidate and the live version.
        on_progress: called with a line of text before each long step.

    Returns:
        the verdict with its figures; `require_passed` raises the error of a candidate that failed.

    Raises:
        UsageError: an argument is wrong; or an image has several labels, or none, and the model is multiclass.
        RunError: the reference cannot be computed.
    """
    check_instance("candidate", candidate, Candidate)
    check_instance("reference", reference, ModelSource, optional=True)
    check_instance("images", images, GateImages, optional=True)
    check_text("model", model, "the name of a model")
    check_type("config", config, Mapping, "config.pbtxt as a dict")
    check_instance("live", live, LiveModel, optional=True)
    check_instance("limits", limits, GateLimits)
    check_function("open_session", open_session, "a function that opens a session")
    check_progress(on_progress)
    began = time.monotonic()
    limits = limits.of_precision(candidate.precision)
    checks: list[GateCheck] = []
    notes: list[str] = []
    chosen = _held_out(images, reference, limits, notes)
    served = _open(candidate, config, open_session, checks)
    evaluation, agreement = None, None
    if served is not None and chosen is not None:
        on_progress(f"gate: measuring on {len(chosen):,} {chosen.origin}")
        evaluation = _evaluate(served, chosen, candidate, checks)
    if served is not None and candidate.precision == "fp16":
        checks.append(_check_overflow(candidate, chosen))
    if evaluation is not None and chosen is not None and reference is not None:
        agreement = _compare(evaluation, reference, chosen, limits, checks)
    latency, beside = None, None
    if served is not None:
        live_graph = _open_live(live, open_session, notes)
        latency, live_latency = _measure_latencies(served, live_graph, on_progress)
        if live is not None:
            comparison, reason = None, "no images"
            if evaluation is not None and chosen is not None:
                on_progress(f"gate: comparing with the live version {live.version}")
                fitted = None if reference is None else reference.fitted_images
                comparison, reason = measure_live(live, live_graph, chosen, evaluation, fitted, notes)
            beside = LiveFigures(live.version, comparison, reason, live_latency, live.graph.stat().st_size)
            checks += check_live(beside, latency, candidate.graph.stat().st_size, limits)
    return GateReport(
        model=model,
        candidate=_describe(candidate),
        precision=candidate.precision,
        accelerators=candidate.accelerators,
        onnx_sha256=candidate.onnx_sha256,
        size=candidate.graph.stat().st_size,
        reference=None if reference is None else reference.title,
        images=0 if evaluation is None else evaluation.images,
        origin="no images" if chosen is None else chosen.origin,
        not_run=None if served is None else served.not_run,
        limits=limits,
        checks=tuple(sorted(checks, key=lambda check: check.passed)),
        agreement=agreement,
        **_metrics(evaluation, chosen),
        latency=latency,
        live=beside,
        notes=tuple(notes),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
        machine={"processor": _processor(), "tamiz": __version__, "onnxruntime": ort.__version__},
    )


def require_passed(report: GateReport, hint: str) -> None:
    """Check that a candidate passed the gate.

    Args:
        report: the verdict.
        hint: what to do, the end of the message.

    Raises:
        GateError: it did not; the message has the first limit that it failed.
    """
    if report.passed:
        return
    first, *others = report.failures
    more = f" (and {len(others)} more: {', '.join(check.name for check in others)})" if others else ""
    raise GateError(f"{report.model}: nothing was published: the gate failed: {first.text}{more}; {hint}")


def _held_out(
    images: GateImages | None, reference: ModelSource | None, limits: GateLimits, notes: list[str]
) -> GateImages | None:
    """Choose the images that are measured: not too many, and none that the model was fitted to if there are others."""
    if images is None:
        notes.append("there are no images to measure on; give some by --images")
        return None
    notes += images.notes
    if not len(images):
        return None
    chosen = images.spread(limits.images)
    if len(chosen) < len(images):
        notes.append(f"measured on {len(chosen):,} of {len(images):,} images; --limit images={len(images)} takes all")
    fitted = None if reference is None else reference.fitted_images
    if fitted is None:
        notes.append("the images that the candidate was trained on are unknown; it may have seen some of these")
        return chosen
    unseen = chosen.unseen(fitted)
    if not unseen:
        notes.append("the model was trained on these images, or they chose its best epoch: its accuracy is too good")
        return chosen
    if seen := len(chosen) - len(unseen):
        notes.append(f"left out: {seen:,} images that the candidate was trained on")
    if len(unseen) < FEW_IMAGES:
        notes.append(f"only {len(unseen):,} images: the figures are rough")
    return chosen.take(unseen)


def _open(
    candidate: Candidate, config: Mapping[str, Any], open_session: OpenSession, checks: list[GateCheck]
) -> ServedGraph | None:
    """Open the session of a candidate; None if it cannot serve, which fails the check ``served``."""
    served: ServedGraph | None = None
    try:
        served = ServedGraph(candidate.graph, candidate.spec, config, open_session)
        problem = served.find_problem()
    except ExportError as exc:
        # Its file may be a temporary one.
        problem = str(exc).removeprefix(f"{candidate.graph}: ").replace(str(candidate.graph), candidate.title)
    if problem is not None or served is None:
        checks.append(GateCheck("served", False, f"the graph cannot be served: {problem}"))
        return None
    batches = f"batches of 1 to {served.largest_batch}"
    if served.not_run is None:
        checks.append(GateCheck("served", True, f"a server can compute {batches}"))
    else:
        # Not a check of the session that serves, so it does not have its name.
        checks.append(GateCheck("computed", True, f"a CPU can compute {batches}"))
    return served


def _measure_latencies(
    served: ServedGraph, live: ServedGraph | None, on_progress: Callable[[str], None]
) -> tuple[Latency | None, Latency | None]:
    """The latencies of the candidate and of the live version; None for one whose session is not run here."""
    graphs = [graph for graph in (served, live) if graph is not None and graph.not_run is None]
    if served not in graphs:
        return None, None
    on_progress("gate: measuring the latency")
    latency, *others = measure_latencies(graphs)
    return latency, next(iter(others), None)


def _evaluate(
    served: ServedGraph, images: GateImages, candidate: Candidate, checks: list[GateCheck]
) -> Evaluation | None:
    split = images.to_split(candidate.spec)
    try:
        evaluation = evaluate_function(served.probabilities, split, candidate.spec)
    except ExportError as exc:
        checks.append(GateCheck("served", False, f"the graph cannot be served: {exc}"))
        return None
    if not evaluation.images:
        checks.append(GateCheck("images", False, f"none of the {len(images):,} {images.origin} can be read"))
        return None
    checks.append(check_finite(count_non_finite(evaluation.probabilities), evaluation.images))
    return replace(evaluation, probabilities=finite(evaluation.probabilities))


def _check_overflow(candidate: Candidate, images: GateImages | None) -> GateCheck:
    try:
        return check_overflows(find_overflows(candidate.graph, candidate.spec, images))
    except ExportError as exc:
        return GateCheck("overflow", False, f"whether layers overflow in FP16 is unknown: {exc}")


def _compare(
    evaluation: Evaluation,
    reference: ModelSource,
    images: GateImages,
    limits: GateLimits,
    checks: list[GateCheck],
) -> Agreement | None:
    if problem := find_label_problem(evaluation.spec, reference.spec):
        checks.append(GateCheck("labels", False, problem))
        return None
    expected = reference.evaluate(images.to_split(reference.spec))
    agreement = measure_agreement(evaluation, expected, labelled=images.labelled)
    if agreement is None:
        checks.append(GateCheck("images", False, "no image can be read by the candidate and by its reference"))
        return None
    checks += check_agreement(agreement, limits)
    return agreement


def _open_live(live: LiveModel | None, open_session: OpenSession, notes: list[str]) -> ServedGraph | None:
    if live is None:
        return None
    try:
        served = ServedGraph(live.graph, live.spec, live.config, open_session)
        problem = served.find_problem()
    except ExportError as exc:
        problem = str(exc)
    if problem is not None:
        notes.append(f"the live version {live.version} was not measured: {problem}")
        return None
    if served.not_run is not None:
        notes.append(f"the live version {live.version} was measured on the CPU, and not its latency: {served.not_run}")
    return served


def _metrics(evaluation: Evaluation | None, images: GateImages | None) -> dict[str, Any]:
    """The figures of a report that need the labels of the images."""
    if evaluation is None or images is None or not images.labelled:
        return {}
    entries: list[list[int]] = []
    if evaluation.spec.task == "multiclass":
        matrix = evaluation.confusion_matrix
        places = np.argwhere(matrix)
        entries = np.column_stack([places, matrix[tuple(places.T)]]).tolist()
    return {
        "metrics": evaluation.metrics,
        "classes": tuple(evaluation.classes),
        "confusion_matrix": tuple((true, predicted, count) for true, predicted, count in entries),
    }


def _processor() -> str:
    """The name of the processor, as Linux gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _describe(candidate: Candidate) -> str:
    accelerators = [
        str(each.get("name")) for group in candidate.accelerators.values() for each in group if isinstance(each, dict)
    ]
    return " ".join([candidate.title, f"({', '.join([candidate.precision, *accelerators])})"])
