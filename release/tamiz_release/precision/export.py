"""Export of a run in a precision: the graph in the folder of the run, and a report in precision.json beside it.

::

    model.onnx                   FP32
    model.int8.onnx              INT8 for CPUs
    model.int8-tensorrt.onnx     INT8 for TensorRT
    model.fp16.onnx              FP16
    precision.json               the report of each of them: what was measured, which nodes stay in FP32, and why

A graph is not searched again while the FP32 graph, the settings and the machine are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import tamiz
from tamiz.arguments import check_choice, check_instance, check_number, check_seconds
from tamiz.errors import UsageError
from tamiz.files import sha256
from tamiz_train.run import Run

from ..candidate import Candidate, run_candidate
from .choice import MAX_LOSS_POINTS, Target, choose_fp16, choose_int8
from .images import load_images
from .machine import describe_machine
from .report import describe_report, make_report, read_report, still_holds, write_report

Precision = Literal["fp32", "fp16", "int8"]

BUDGET_S = 300.0
"""Default time budget of a search, in seconds."""


def export_precision(
    run: Run,
    precision: Precision,
    *,
    target: Target = "cpu",
    budget_s: float = BUDGET_S,
    max_loss_points: float = MAX_LOSS_POINTS,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Candidate:
    """Export a run in a precision.

    INT8 and FP16 are searched on real images, unless this machine already did so for the same run and settings.

    Args:
        run: a finished run.
        precision: ``fp32``; ``int8``, the fastest graph on this machine that keeps the accuracy; or ``fp16``, for GPUs.
        target: what computes an INT8 graph: ``cpu``, or ``tensorrt``, which needs another graph than a CPU.
        budget_s: time budget of the search in seconds.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose on validation images, in
            points.
        on_progress: called with a line of text after each step.

    Returns:
        the graph in the folder of the run; ``precision_report`` in its manifest says how it was found.

    Raises:
        UsageError: an argument is unknown or out of its range.
        ExportError: the network cannot be exported; or no graph was found that keeps the accuracy.
        RunError: the weights cannot be loaded; or neither the data of the run nor images that it keeps can be found.
        OutputError: the folder of the run cannot be written.
    """
    _check(run, precision, target, budget_s, max_loss_points)
    graph = graph_path(run, "fp32")
    if precision == "fp32" or not _is_exported(run):
        _export_fp32(run, on_progress)
    parity = json.loads((run.path / "parity.json").read_text(encoding="utf-8"))
    if precision == "fp32":
        return run_candidate(run, graph, parity=parity)
    name = precision if target == "cpu" else f"{precision}-{target}"
    path = graph_path(run, precision, target)
    key = {
        "graph_sha256": sha256(graph),
        "machine": describe_machine(),
        "serving": run.recipe.serving.model_dump(include={"max_batch_size", "micro_batch_size"}),
        "tamiz": tamiz.__version__,
    } | ({"max_loss_points": max_loss_points} if precision == "int8" else {})
    report = read_report(run.path, name)
    if report is not None and still_holds(report, key, path, budget_s):
        on_progress(f"{path}: found by an earlier search on this machine")
    else:
        images, problem = load_images(run)
        if problem is not None:
            on_progress(f"warning: {problem}")
        chosen = (graph, path, run.spec, run.recipe.serving, images)
        if precision == "int8":
            choice = choose_int8(
                *chosen, target=target, max_loss_points=max_loss_points, budget_s=budget_s, on_progress=on_progress
            )
        else:
            choice = choose_fp16(*chosen, budget_s=budget_s, on_progress=on_progress)
        report = make_report(choice, path, key, budget_s)
        write_report(run.path, name, report)
    for line in describe_report(report):
        on_progress(line)
    return run_candidate(run, path, precision=precision, parity=parity, precision_report=report)


def graph_path(run: Run, precision: Precision, target: Target = "cpu") -> Path:
    """Path of the graph of a run in a precision, whether it is there or not."""
    name = precision if target == "cpu" else f"{precision}-{target}"
    return run.path / ("model.onnx" if precision == "fp32" else f"model.{name}.onnx")


def _check(run: Run, precision: str, target: str, budget_s: float, max_loss_points: float) -> None:
    check_instance("run", run, Run)
    check_choice("precision", precision, get_args(Precision))
    check_choice("target", target, get_args(Target))
    if target != "cpu" and precision != "int8":
        raise UsageError(f"target {target}: it is for int8 alone; {precision} has one graph for all hardware")
    check_seconds("budget_s", budget_s)
    expected = "a number of points from 0 to below 100"
    check_number("max_loss_points", max_loss_points, expected, above=-1e-9, below=100)


def _export_fp32(run: Run, on_progress: Callable[[str], None]) -> None:
    # Imported here, because it needs PyTorch, which takes seconds.
    from tamiz_train.onnx_export import export

    exported = export(run)
    write_report(run.path, "fp32", _fp32_report(run))
    on_progress(f"{exported.path}: {exported.parity}")


def _is_exported(run: Run) -> bool:
    """Whether model.onnx is the graph that an export would write again."""
    return (run.path / "model.onnx").is_file() and read_report(run.path, "fp32") == _fp32_report(run)


def _fp32_report(run: Run) -> dict[str, Any]:
    files = ("model.onnx", "parity.json", "model.safetensors", "recipe.yaml", "spec.json")
    return {
        "files": {name: sha256(path) for name in files if (path := run.path / name).is_file()},
        "versions": {"tamiz": tamiz.__version__} | {name: version(name) for name in ("torch", "timm", "onnxscript")},
    }
