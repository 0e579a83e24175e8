"""The benchmark of precisions: FP32, INT8 and FP16 graphs of one network, side by side in this process.

The graphs are those that ``tamiz export`` finds on this machine. Speeds are measured in interleaved rounds, in
processor time of one thread, in the session that serves.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tamiz.console import print_table
from tamiz.errors import UsageError
from tamiz.preprocessing import prepare
from tamiz.spec import ModelSpec, Normalisation, Preprocessing
from tamiz_release.precision.choice import Choice, choose_fp16, choose_int8
from tamiz_release.precision.images import SearchImages, load_images
from tamiz_release.precision.measurement import compare_speeds
from tamiz_server.config import ServingSettings
from tamiz_server.serving_session import open_serving_session, session_config
from tamiz_train.run import Run

from .comparison import align_right
from .machine import describe_machine

BATCH_SIZES = (1, 8)

_ANY = 100.0
"""Random weights have no accuracy to lose."""


@dataclass(frozen=True)
class PrecisionsReport:
    """Results of the benchmark of precisions.

    Attributes:
        network: name of the run or of the network.
        machine: processor, software versions and time of the benchmark.
        images: the images that were used, as one line of text.
        bytes: size of each graph in bytes, by precision.
        speeds: speed of each graph as a ratio to FP32, by precision and batch size.
        choices: how the INT8 and the FP16 graph were found.
    """

    network: str
    machine: dict[str, str]
    images: str
    bytes: dict[str, int]
    speeds: dict[str, dict[int, float]]
    choices: dict[str, Choice]

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document."""
        return {
            "network": self.network,
            "machine": self.machine,
            "images": self.images,
            "precisions": {
                name: {"bytes": self.bytes[name], "speed_ratios": {str(size): speed for size, speed in speeds.items()}}
                | (_describe(self.choices[name]) if name in self.choices else {})
                for name, speeds in self.speeds.items()
            },
        }


def compare_run(run: Run, **options: Any) -> PrecisionsReport:
    """Compare the precisions of a run, on its own images; see `compare_graph`.

    Raises:
        RunError: the run cannot be exported, or has no images on this machine.
        ExportError: the network cannot be exported, or a precision cannot keep the accuracy.
    """
    from tamiz_train.onnx_export import export

    images, _ = load_images(run)
    return compare_graph(run.recipe.name, export(run).path, run.spec, run.recipe.serving, images, **options)


def compare_random_network(name: str, photographs: Sequence[Path], **options: Any) -> PrecisionsReport:
    """Compare the precisions of a network with random weights, whose speed is that of trained ones.

    Args:
        name: name of a network of timm.
        photographs: image files, which calibrate and on which the graphs are compared; two or more.
        options: see `compare_graph`.

    Raises:
        UsageError: there are too few images, or there is no such network.
        InvalidImageError: an image is unreadable.
        ExportError: the network cannot be exported.
    """
    import timm
    import torch

    from tamiz_train.classifier import Classifier
    from tamiz_train.onnx_export import write_graph

    if len(photographs) < 2:
        raise UsageError("--images: give a folder with two images or more, which calibrate the network")
    if not timm.is_model(name):
        raise UsageError(f"{name}: neither the folder of a run nor a network of timm")
    preprocessing = Preprocessing(height=224, width=224, colour="RGB")
    normalisation = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    labels = tuple(f"label {index}" for index in range(10))
    spec = ModelSpec(labels=labels, preprocessing=preprocessing, normalisation=normalisation)
    pixels = np.stack([prepare(path, preprocessing) for path in photographs])
    images = SearchImages(pixels[::2], pixels[1::2], None, "photographs", "photographs, random weights")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        graph = Path(folder) / "model.onnx"
        write_graph(Classifier(timm.create_model(name, num_classes=len(labels)), spec).eval(), spec, graph)
        settings = ServingSettings(max_batch_size=BATCH_SIZES[-1], threads=1)
        return compare_graph(name, graph, spec, settings, images, random_weights=True, **options)


def compare_graph(
    name: str,
    graph: Path,
    spec: ModelSpec,
    settings: ServingSettings,
    images: SearchImages,
    *,
    precisions: Sequence[str] = ("int8", "fp16"),
    budget_s: float = 300.0,
    rounds: int = 15,
    random_weights: bool = False,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PrecisionsReport:
    """Find the graphs of lower precision of an FP32 graph, and compare them.

    Args:
        name: name of the network, for the report.
        graph: path of the FP32 graph, in the standard form of `tamiz_train.graph`.
        spec: spec of the graph.
        settings: serving settings, by which the search chooses.
        images: images that calibrate, and images on which the graphs are compared.
        precisions: ``int8``, ``fp16`` or both.
        budget_s: time budget of each search in seconds.
        rounds: number of interleaved rounds of the final comparison.
        random_weights: whether the accuracy is of no interest.
        on_progress: called with a line of text after each step.

    Raises:
        ExportError: a precision cannot keep the accuracy.
    """
    find: dict[str, Callable[..., Choice]] = {
        "int8": partial(choose_int8, max_disagreement_points=_ANY) if random_weights else choose_int8,
        "fp16": partial(choose_fp16, max_disagreement_points=_ANY) if random_weights else choose_fp16,
    }
    with tempfile.TemporaryDirectory(prefix="tamiz-") as folder:
        paths, choices = {"fp32": graph}, {}
        for precision in precisions:
            paths[precision] = Path(folder) / f"{precision}.onnx"
            choices[precision] = find[precision](
                graph, paths[precision], spec, settings, images, budget_s=budget_s, on_progress=on_progress
            )
        config = session_config(settings.model_copy(update={"threads": 1}))
        sessions = [open_serving_session(path, config) for path in paths.values()]
        speeds = compare_speeds(sessions, BATCH_SIZES, images.validation, rounds)
        return PrecisionsReport(
            name,
            describe_machine(),
            images.describe(),
            {precision: path.stat().st_size for precision, path in paths.items()},
            dict(zip(paths, speeds, strict=True)),
            choices,
        )


def print_precisions(report: PrecisionsReport) -> None:
    """Print a table of the precisions, and which parts stay in FP32."""
    rows = []
    for name, speeds in report.speeds.items():
        cells = [f"{report.bytes[name] / 2**20:.1f}", *(f"{speed:.2f}" for speed in speeds.values())]
        rows.append(
            [name, *map(align_right, cells), str(report.choices[name].accuracy) if name in report.choices else ""]
        )
    print(f"{report.network} on {report.machine['processor']}, one thread; {report.images}")
    print_table(["", "MiB", *(f"÷ FP32, batch {size}" for size in BATCH_SIZES), "beside FP32"], rows)
    for name, choice in report.choices.items():
        for part in choice.parts:
            print(f"{name}: {part.name} in FP32 ({part.reason})")


def _describe(choice: Choice) -> dict[str, Any]:
    parts = [{"name": part.name, "reason": part.reason, "nodes": sorted(part.nodes)} for part in choice.parts]
    return {
        "accuracy": choice.accuracy.to_dict(),
        "setting": choice.setting,
        "float_parts": parts,
        "seconds": choice.seconds,
        "complete": choice.complete,
    }
