"""Export of a run in a precision: the graph in the folder of the run, and a report in precision.json beside it.

::

    model.onnx                   FP32
    model.int8.onnx              INT8 for CPUs
    model.int8-tensorrt.onnx     INT8 for TensorRT
    model.fp16.onnx              FP16
    precision.json               the report of each of them: what was measured, which nodes stay in FP32, and why; and
                                 what was measured to choose among them

A graph is not searched again while the FP32 graph, the settings and the machine are the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence, Set
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import tamiz
from tamiz.arguments import check_choice, check_instance, check_number, check_progress, check_seconds, check_text, wrong
from tamiz.errors import ExportError, UsageError, list_names
from tamiz.files import sha256
from tamiz_train.run import Run

from ..candidate import Candidate, run_candidate
from .auto import ONNX_RUNTIME, RUNTIME_NAMES, RUNTIMES, decide, describe_auto_report, make_auto_report, measure
from .choice import Target, choose_fp16, choose_int8
from .defaults import BUDGET_S, MAX_LOSS_POINTS
from .images import SearchImages, load_images
from .machine import describe_machine
from .report import describe_report, make_report, read_report, still_holds, write_report
from .tensorrt import tensorrt_accelerators

Precision = Literal["fp32", "fp16", "int8"]
"""The precision of a graph."""

WantedPrecision = Literal["fp32", "fp16", "int8", "auto"]
"""A precision, or the fastest one on this machine."""

_SHARES: dict[Precision, float] = {"int8": 0.75, "fp16": 0.25}
"""The shares of the time budget of ``auto``: there is less to try for FP16, and few CPUs compute it faster."""


def export_precision(
    run: Run,
    precision: WantedPrecision,
    *,
    target: Target = "cpu",
    engine_cache: str | None = None,
    budget_s: float = BUDGET_S,
    max_loss_points: float = MAX_LOSS_POINTS,
    runtimes: Collection[str] = RUNTIME_NAMES,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Candidate:
    """Export a run in a precision.

    INT8 and FP16 are searched on real images, unless this machine already did so for the same run and settings.

    Args:
        run: a finished run.
        precision: ``fp32``; ``int8``, the fastest graph on this machine that keeps the accuracy; ``fp16``, for GPUs; or
            ``auto``, the fastest of these three on the runtimes of this machine that keeps the accuracy.
        target: what will compute the graph: ``cpu``, or for INT8 and FP16 ``tensorrt``, which needs another INT8 graph
            than a CPU, and gets accelerators.
        engine_cache: an absolute folder on the server for the engines of TensorRT; see
            `tamiz_release.precision.tensorrt.tensorrt_accelerators`.
        budget_s: time budget of the search in seconds; of both searches together if ``auto``.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose on validation images, in
            points.
        runtimes: names of the runtimes that ``auto`` may choose, ``onnxruntime`` and ``openvino``.
        on_progress: called with a line of text after each step.

    Returns:
        the graph in the folder of the run; ``precision_report`` in its manifest says how it was found, and
        ``precision_choice`` what ``auto`` measured.

    Raises:
        UsageError: an argument is unknown or out of its range.
        ExportError: the network cannot be exported; or no graph was found that keeps the accuracy.
        RunError: the weights cannot be loaded; or neither the data of the run nor images that it keeps can be found.
        OutputError: the folder of the run cannot be written.
    """
    check_export(run, precision, target, engine_cache, budget_s, max_loss_points, runtimes)
    check_progress(on_progress)
    largest, accelerators = run.recipe.serving.max_batch_size, None
    if target == "tensorrt":
        accelerators = tensorrt_accelerators(precision, run.spec, largest, engine_cache)
    graph = graph_path(run, "fp32")
    if precision == "fp32" or not _is_exported(run):
        _export_fp32(run, on_progress)
    search = _Search(run, target, budget_s, max_loss_points, on_progress)
    if precision == "auto":
        return _export_fastest(run, graph, search, sorted(runtimes))
    if precision == "fp32":
        return _candidate(run, graph)
    path, report = search.find(precision)
    for line in describe_report(report):
        on_progress(line)
    return _candidate(run, path, precision=precision, accelerators=accelerators, precision_report=report)


class _Search:
    """Searches graphs of lower precision of a run, with images that are loaded once."""

    def __init__(
        self, run: Run, target: Target, budget_s: float, max_loss_points: float, on_progress: Callable[[str], None]
    ) -> None:
        self.budget_s, self.max_loss_points = budget_s, max_loss_points
        self.on_progress = on_progress
        self._run = run
        self._target: Target = target

    def find(self, precision: Precision, share: float = 1.0) -> tuple[Path, dict[str, Any]]:
        """The graph of a precision and its report, of this search or of an earlier one.

        Args:
            precision: the precision.
            share: the share of the time budget that the search has.
        """
        run, budget_s = self._run, self.budget_s * share
        name = _graph_name(precision, self._target)
        path = graph_path(run, precision, self._target)
        key = self.key() if precision == "fp16" else self.key() | {"max_loss_points": self.max_loss_points}
        report = read_report(run.path, name)
        if report is not None and still_holds(report, key, path, budget_s):
            self.on_progress(f"{path}: found by an earlier search on this machine")
            return path, report
        chosen = (run.path / "model.onnx", path, run.spec, run.recipe.serving, self.images)
        budget: dict[str, Any] = {"budget_s": budget_s, "on_progress": self.on_progress}
        if precision == "int8":
            choice = choose_int8(*chosen, target=self._target, max_loss_points=self.max_loss_points, **budget)
        else:
            choice = choose_fp16(*chosen, **budget)
        report = make_report(choice, path, key, budget_s)
        write_report(run.path, name, report)
        return path, report

    def key(self) -> dict[str, Any]:
        """What the result of a search depends on."""
        return {
            "graph_sha256": sha256(self._run.path / "model.onnx"),
            "machine": describe_machine(),
            "serving": self._run.recipe.serving.model_dump(include={"max_batch_size", "micro_batch_size"}),
            "tamiz": tamiz.__version__,
        }

    @cached_property
    def images(self) -> SearchImages:
        """The images by which graphs are chosen."""
        images, problem = load_images(self._run)
        if problem is not None:
            self.on_progress(f"warning: {problem}")
        return images


def _export_fastest(run: Run, graph: Path, search: _Search, runtimes: list[str]) -> Candidate:
    key = search.key() | {
        "max_loss_points": search.max_loss_points,
        "runtimes": runtimes,
        "openvino": _openvino_version(),
    }
    report = read_report(run.path, "auto")
    if report is None or not still_holds(report, key, run.path / str(report.get("file")), search.budget_s):
        graphs: dict[str, Path | str] = {"fp32": graph}
        complete = True
        for precision, share in _SHARES.items():
            search.on_progress(f"{precision}:")
            try:
                graphs[precision], found = search.find(precision, share)
                complete &= bool(found["complete"])
            except ExportError as exc:
                graphs[precision] = str(exc).removeprefix(f"{graph_path(run, precision)}: ")
                complete = False
        search.on_progress("measuring the graphs side by side")
        # FP32 in ONNX Runtime is what the others are compared with, whether it may be chosen or not.
        measured = [each for each in RUNTIMES if each == ONNX_RUNTIME or each.name in runtimes]
        options = measure(graphs, run.spec, run.recipe.serving, search.images, runtimes=measured)
        decision = decide(options, max_loss_points=search.max_loss_points, runtimes=runtimes)
        path = decision.chosen.path or graph
        report = make_auto_report(options, decision) | {
            "file": path.name,
            "sha256": sha256(path),
            "key": key,
            "images": search.images.describe(),
            "budget_s": search.budget_s,
            "complete": complete,
        }
        write_report(run.path, "auto", report)
    for line in describe_auto_report(report):
        search.on_progress(line)
    chosen = report["precision"]
    details = {} if chosen == "fp32" else {"precision_report": read_report(run.path, chosen)}
    return _candidate(
        run,
        run.path / report["file"],
        precision=chosen,
        accelerators=report["accelerators"],
        precision_choice=report,
        **details,
    )


def _candidate(run: Run, path: Path, **details: Any) -> Candidate:
    parity = json.loads((run.path / "parity.json").read_text(encoding="utf-8"))
    return run_candidate(run, path, parity=parity, **details)


def _openvino_version() -> str | None:
    try:
        return version("onnxruntime-ep-openvino")
    except PackageNotFoundError:
        return None


def graph_path(run: Run, precision: Precision, target: Target = "cpu") -> Path:
    """Path of the graph of a run in a precision, whether it is there or not."""
    return run.path / ("model.onnx" if precision == "fp32" else f"model.{_graph_name(precision, target)}.onnx")


def _graph_name(precision: Precision, target: Target) -> str:
    # Graphs in FP16 are the same for all hardware.
    return "int8-tensorrt" if (precision, target) == ("int8", "tensorrt") else precision


def check_export(
    run: Run,
    precision: str,
    target: str,
    engine_cache: str | None,
    budget_s: float,
    max_loss_points: float,
    runtimes: Collection[str],
) -> None:
    """Check the arguments of `export_precision`.

    Raises:
        UsageError: one is wrong.
    """
    check_instance("run", run, Run)
    check_choice("precision", precision, get_args(WantedPrecision))
    check_choice("target", target, get_args(Target))
    if engine_cache is not None:
        check_text("engine_cache", engine_cache, "an absolute folder on the server, or None")
        if target != "tensorrt":
            raise UsageError(f"engine_cache: only the target tensorrt has engines, and the target is {target}")
    check_seconds("budget_s", budget_s)
    check_max_loss(max_loss_points)
    if isinstance(runtimes, str | bytes) or not isinstance(runtimes, Sequence | Set) or not runtimes:
        raise wrong("runtimes", runtimes, f"one or more of {list_names(RUNTIME_NAMES)}, in a list")
    for name in runtimes:
        check_choice("runtimes", name, RUNTIME_NAMES)


def check_max_loss(max_loss_points: float) -> None:
    """Check the largest allowed loss of an INT8 graph.

    Raises:
        UsageError: it is no number of points from 0 to below 100.
    """
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
