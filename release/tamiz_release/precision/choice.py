"""Choosing a graph of lower precision: the searches with all that they measure on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from tamiz.errors import ExportError, list_names
from tamiz.files import staged
from tamiz.spec import ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_train.graph import read_spec

from ..gate.agreement import main_metric
from . import fp16, search
from .accuracy import Accuracy
from .budget import Budget
from .defaults import MAX_LOSS_POINTS
from .images import SearchImages
from .int8 import Quantizer
from .machine import saturates
from .measurement import FINAL_ROUNDS, SEARCH_ROUNDS, Measurement
from .network import Network
from .rescue import Part, S, S_contra, Trial
from .search_bar import SearchBar

Target = Literal["cpu", "tensorrt"]

MAX_DISAGREEMENT_POINTS = 2.0
"""The largest share of images with other labels, in points, by which an INT8 graph is judged without true labels.

Labels change on images whose two most probable labels are about equally probable, about as often for the better as for
the worse; so the share is larger than the loss of accuracy.
"""

MAX_HALF_DISAGREEMENT_POINTS = 0.1
"""The largest share of images with other labels, in points, that an FP16 graph may have."""


@dataclass(frozen=True)
class Choice:
    """A graph of lower precision, and what was measured.

    Attributes:
        setting: how the graph is made, which JSON can hold.
        parts: the parts of the network that stay in FP32, and why.
        speeds: speed as a ratio to that of the FP32 graph on one thread of this machine, by batch size; empty if the
            graph is for other hardware.
        accuracy: the graph beside the FP32 graph, on validation images.
        images: the images that were used, as one line of text.
        seconds: duration of the search in seconds.
        left_out: what the time budget was too short for.
    """

    setting: dict[str, Any]
    parts: tuple[Part, ...]
    speeds: dict[int, float]
    accuracy: Accuracy
    images: str
    seconds: float
    left_out: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the time budget was long enough for all steps."""
        return not self.left_out


def choose_int8(
    graph: Path,
    path: Path,
    spec: ModelSpec,
    settings: ServingSettings,
    images: SearchImages,
    *,
    target: Target = "cpu",
    max_loss_points: float = MAX_LOSS_POINTS,
    max_disagreement_points: float = MAX_DISAGREEMENT_POINTS,
    budget_s: float,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Write the fastest INT8 graph on this machine that keeps the accuracy.

    Args:
        graph: path of the FP32 graph, in the standard form of `tamiz_train.graph`.
        path: path of the ONNX file to write.
        spec: spec of the model.
        settings: the serving settings of the model.
        images: images that calibrate, and images on which graphs are compared.
        target: what will compute the graph: ``cpu``, or ``tensorrt``, whose speed is not measured.
        max_loss_points: the largest accuracy (mAP, if multilabel) that the graph may lose, in points.
        max_disagreement_points: the largest share of images with other labels, in points, which is limited instead
            where true labels are unknown.
        budget_s: time budget of the search in seconds.
        on_progress: called with a line of text after each step.

    Raises:
        ExportError: the graph cannot be quantized, or no graph was found that keeps the accuracy.
        OutputError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder, SearchBar("INT8", budget_s, on_progress) as bar:
        budget = Budget(budget_s)
        quantizer = Quantizer(graph, images.calibration, Path(folder))
        known = main_metric(spec, images.targets) is not None
        bench = Measurement(
            graph,
            quantizer.write,
            images,
            spec,
            settings,
            limit=max_loss_points if known else max_disagreement_points,
            by_agreement=not known,
            budget=budget,
            folder=Path(folder),
        )
        if target == "tensorrt":
            trial = search.search_symmetric(quantizer.network, bench, on_progress=bar.line)
        else:
            trial = search.search(quantizer.network, bench, saturates=saturates(), on_progress=bar.line)
        choice = _finish(trial, bench, quantizer, path, "INT8", images, measure_speed=target == "cpu")
        return replace(choice, parts=(*quantizer.output, *choice.parts))


def choose_fp16(
    graph: Path,
    path: Path,
    spec: ModelSpec,
    settings: ServingSettings,
    images: SearchImages,
    *,
    max_disagreement_points: float = MAX_HALF_DISAGREEMENT_POINTS,
    budget_s: float,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Write the FP16 graph in which all stays in FP32 that overflows or changes labels on real images.

    Its speed is measured too, though few CPUs compute half precision. The arguments and errors are those of
    `choose_int8`.
    """
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder, SearchBar("FP16", budget_s, on_progress) as bar:
        budget = Budget(budget_s)
        converter = fp16.Converter(graph)
        bench = Measurement(
            graph,
            converter.write,
            images,
            spec,
            settings,
            limit=max_disagreement_points,
            by_agreement=True,
            budget=budget,
            folder=Path(folder),
            accuracy_session=fp16.open_rounding_session,
        )
        trial = fp16.search(converter, images.calibration, bench, on_progress=bar.line)
        return _finish(trial, bench, converter, path, "FP16", images, measure_speed=True)


class _Writer(Protocol[S_contra]):
    """Writes graphs of lower precision."""

    network: Network

    def write(self, setting: S_contra, path: Path, /) -> None: ...


def _finish(
    trial: Trial[S] | None,
    bench: Measurement[S],
    writer: _Writer[S],
    path: Path,
    title: str,
    images: SearchImages,
    *,
    measure_speed: bool,
) -> Choice:
    seconds, left_out = bench.budget.spent, tuple(bench.budget.left_out)
    if trial is None:
        raise ExportError(
            f"{path}: no {title} graph was found in {seconds:.0f} s that loses at most {bench.limit:g} points; the "
            f"best one loses {bench.least_loss():.2f}; give the search more time by --budget, or allow more by "
            "--max-loss" + (f"; left out for lack of time: {list_names(left_out)}" if left_out else "")
        )
    accuracy = bench.accuracy(trial.setting)
    # It takes as long as so many steps of the search, each of which measures FP32 and the graph.
    fits = bench.budget.fits(speeds=2 * FINAL_ROUNDS // SEARCH_ROUNDS - 1)
    rounds = FINAL_ROUNDS if fits else SEARCH_ROUNDS
    (speeds,) = bench.speeds_by_batch([trial.setting], rounds) if measure_speed else [{}]
    with staged(path) as part:
        writer.write(trial.setting, part)
        # Checks the types and the shapes of its input and output, too.
        read_spec(part)
    setting = vars(trial.setting) | {"float_nodes": writer.network.sort(trial.setting.float_nodes)}
    return Choice(setting, trial.parts, speeds, accuracy, images.describe(), seconds, left_out)
