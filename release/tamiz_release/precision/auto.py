"""Choosing precision and runtime together: the fastest of all that this machine can serve and that keep the accuracy.

Every graph is measured on every runtime, because one that is right or fast on one of them need not be so on another:
INT8 can be right in ONNX Runtime and wrong in OpenVINO.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tamiz.errors import ExportError
from tamiz.spec import ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import computes_on_gpu, open_serving_session, session_config

from ..candidate import FP32
from ..gate.served_graph import OpenSession
from .accuracy import Accuracy, measure_accuracy
from .choice import MAX_DISAGREEMENT_POINTS, MAX_HALF_DISAGREEMENT_POINTS
from .images import SearchImages
from .measurement import FINAL_ROUNDS, batch_sizes, compare_speeds, compute_probabilities
from .search import WORTHWHILE

RuntimeName = Literal["onnxruntime", "openvino"]
"""The name of a runtime."""

RUNTIME_NAMES: tuple[RuntimeName, ...] = get_args(RuntimeName)


@dataclass(frozen=True)
class Runtime:
    """What computes a graph.

    Attributes:
        name: its name.
        accelerators: see `tamiz_release.Candidate`.
    """

    name: RuntimeName
    accelerators: Mapping[str, Any] = field(default_factory=dict)


ONNX_RUNTIME = Runtime("onnxruntime")
"""ONNX Runtime with its own kernels: the runtime of a model without accelerators."""

OPENVINO = Runtime("openvino", {"cpu_execution_accelerator": [{"name": "openvino"}]})
"""OpenVINO, through its plugin for ONNX Runtime."""

RUNTIMES = (ONNX_RUNTIME, OPENVINO)
"""The runtimes that are tried, the default first."""


@dataclass(frozen=True)
class Option:
    """A graph on a runtime, and what was measured.

    Attributes:
        precision: precision of the graph.
        runtime: what computes it.
        path: path of the ONNX file; None if no graph of this precision was found.
        speeds: speed as a ratio to that of the FP32 graph in ONNX Runtime, by batch size.
        accuracy: beside the FP32 graph in ONNX Runtime, on validation images.
        problem: why it could not be measured; None if it was.
    """

    precision: str
    runtime: Runtime
    path: Path | None = None
    speeds: Mapping[int, float] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    problem: str | None = None

    @property
    def speed(self) -> float:
        """The geometric mean of the speeds."""
        return statistics.geometric_mean(self.speeds.values())

    @property
    def is_default(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.precision == FP32 and self.runtime == ONNX_RUNTIME


@dataclass(frozen=True)
class Decision:
    """Which option is taken.

    Attributes:
        chosen: the option.
        refusals: why each of the others is not taken, in the order of the options; None for the chosen one.
    """

    chosen: Option
    refusals: tuple[str | None, ...]


def decide(options: Sequence[Option], *, max_loss_points: float, runtimes: Collection[str] = RUNTIME_NAMES) -> Decision:
    """Choose the fastest option that keeps the accuracy; FP32 in ONNX Runtime if none is faster.

    INT8 may lose ``max_loss_points`` of accuracy, or change the labels of 2 % of the images if their true labels are
    unknown; FP16 may change those of 0.1 %, and FP32 none.

    Args:
        options: what was measured; FP32 in ONNX Runtime is among them.
        max_loss_points: the largest accuracy (mAP, if multilabel) that INT8 may lose, in points.
        runtimes: names of the runtimes that may be chosen; FP32 in ONNX Runtime is chosen if nothing in them passes.
    """
    refusals = [_refusal(option, max_loss_points, runtimes) for option in options]
    passing = [option for option, refusal in zip(options, refusals, strict=True) if refusal is None]
    (default,) = (option for option in options if option.is_default)
    chosen = max(passing, key=lambda option: option.speed, default=default)
    slower = f"slower than {chosen.precision} in {chosen.runtime.name}"
    return Decision(
        chosen,
        tuple(
            None if option is chosen else refusal or slower for option, refusal in zip(options, refusals, strict=True)
        ),
    )


def measure(
    graphs: Mapping[str, Path | str],
    spec: ModelSpec,
    settings: ServingSettings,
    images: SearchImages,
    *,
    runtimes: Sequence[Runtime] = RUNTIMES,
    rounds: int = FINAL_ROUNDS,
    open_session: OpenSession = open_serving_session,
) -> list[Option]:
    """Measure graphs on the runtimes of this machine, through the session that serves.

    Speed is measured in interleaved rounds. On a CPU it is the processor time of all threads of this process, because
    OpenVINO computes in threads of its own; ONNX Runtime has one thread. On a GPU it is the elapsed time.

    Args:
        graphs: the path of the graph of each precision, FP32 first; or why there is none.
        spec: spec of the model.
        settings: the serving settings of the model.
        images: images on which graphs are compared.
        runtimes: the runtimes, the default first. One that cannot serve the FP32 graph is tried with no other.
        rounds: number of rounds.
        open_session: opens the sessions.

    Raises:
        ExportError: the FP32 graph cannot be served by the default runtime.
    """
    one_thread = settings.model_copy(update={"threads": 1})
    on_gpu = computes_on_gpu(session_config(one_thread))
    opened: list[tuple[Option, Any]] = []
    failed: list[Option] = []
    expected = None
    for runtime, precision, graph in _combinations(graphs, runtimes):
        if any(each.runtime == runtime and each.precision == FP32 for each in failed):
            continue
        if isinstance(graph, str):
            failed.append(Option(precision, runtime, problem=graph))
            continue
        config = session_config(one_thread, runtime.accelerators)
        try:
            session = open_session(graph, config, gpu=0 if computes_on_gpu(config) else None)
            probabilities = compute_probabilities(session, images.validation)
        except ExportError as exc:
            if expected is None:
                raise
            failed.append(Option(precision, runtime, graph, problem=_plain(str(exc), graph)))
            continue
        if expected is None:
            expected = probabilities
        accuracy = measure_accuracy(probabilities, expected, spec, images.targets)
        opened.append((Option(precision, runtime, graph, accuracy=accuracy), session))
    speeds = compare_speeds(
        [session for _, session in opened],
        batch_sizes(settings),
        images.validation,
        rounds,
        time.perf_counter if on_gpu else time.process_time,
    )
    measured = [
        Option(option.precision, option.runtime, option.path, each, option.accuracy)
        for (option, _), each in zip(opened, speeds, strict=True)
    ]
    order = [(runtime, precision) for runtime, precision, _ in _combinations(graphs, runtimes)]
    return sorted([*measured, *failed], key=lambda option: order.index((option.runtime, option.precision)))


def make_auto_report(options: Sequence[Option], decision: Decision) -> dict[str, Any]:
    """What was measured and decided, which JSON can hold."""
    chosen = decision.chosen
    return {
        "precision": chosen.precision,
        "runtime": chosen.runtime.name,
        "accelerators": dict(chosen.runtime.accelerators),
        "options": [
            {
                "precision": option.precision,
                "runtime": option.runtime.name,
                "bytes": None if option.path is None else option.path.stat().st_size,
                "speed_ratios": {str(size): ratio for size, ratio in option.speeds.items()},
                "accuracy": None if option.accuracy is None else option.accuracy.to_dict(),
                "refused": refusal,
            }
            for option, refusal in zip(options, decision.refusals, strict=True)
        ],
    }


def describe_auto_report(report: Mapping[str, Any]) -> list[str]:
    """The options as the lines of a table, and the one that was chosen."""
    sizes = list(report["options"][0]["speed_ratios"])
    rows = [["", "runtime", "MiB", *(f"× FP32, batch {size}" for size in sizes), "labels agree", ""]]
    for option in report["options"]:
        ratios, accuracy = option["speed_ratios"], option["accuracy"]
        rows.append(
            [
                option["precision"],
                option["runtime"],
                "-" if option["bytes"] is None else f"{option['bytes'] / 2**20:.1f}",
                *(f"{ratios[size]:.2f}" if size in ratios else "-" for size in sizes),
                "-" if accuracy is None else f"{accuracy['agreement']:.2%}",
                "chosen" if option["refused"] is None else f"refused: {option['refused']}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"fastest on this machine: {report['precision']} in {report['runtime']}"]


def _combinations(
    graphs: Mapping[str, Path | str], runtimes: Sequence[Runtime]
) -> Iterator[tuple[Runtime, str, Path | str]]:
    for runtime in runtimes:
        for precision, graph in graphs.items():
            yield runtime, precision, graph


def _plain(reason: str, graph: Path) -> str:
    """The reason why a runtime cannot serve, without what the table says beside it."""
    for known in (f"{graph}: ", "cannot be served on this machine: ", "cpu_execution_accelerator openvino: "):
        reason = reason.removeprefix(known)
    return reason


def _refusal(option: Option, max_loss_points: float, runtimes: Collection[str]) -> str | None:
    """Why an option may not be taken, however fast it is; None if it may."""
    accuracy = option.accuracy
    if option.problem is not None or accuracy is None:
        return option.problem or "it was not measured"
    if option.runtime.name not in runtimes:
        return f"only {' or '.join(runtimes)} may be chosen"
    if option.is_default:
        return None
    if not accuracy.finite:
        return "its outputs are not finite"
    lost = accuracy.loss_points if option.precision == "int8" else None
    if lost is not None and lost > max_loss_points:
        return f"it loses {lost:.2f} points of {accuracy.metric}; at most {max_loss_points:g} are allowed"
    most = {"int8": MAX_DISAGREEMENT_POINTS, "fp16": MAX_HALF_DISAGREEMENT_POINTS}.get(option.precision, 0.0)
    if lost is None and accuracy.disagreement_points > most:
        return f"{accuracy.disagreement_points:.2f} % of the images get another label; at most {most:g} % may"
    if option.speed < 1:
        return f"slower than FP32: {option.speed:.2f} ×"
    if option.speed < WORTHWHILE:
        return f"{option.speed:.2f} × FP32: as fast as FP32 within the error of the measurement"
    return None
