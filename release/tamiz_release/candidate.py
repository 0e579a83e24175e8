"""Candidates: graphs that may become a version of a model, whatever they were made from.

A run's export and an adapted foreign graph are candidates; the gate measures a candidate, and publication adds it to a
repository.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from tamiz.arguments import check_choice, check_instance, check_path, check_text, check_type
from tamiz.errors import ExportError, os_reason
from tamiz.files import sha256
from tamiz.spec import ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_train.run import PARITY_FILE, Run

from .adaptation import Adaptation, write_adapted
from .mlflow_store import recordable

if TYPE_CHECKING:
    from .sources.timm_model import TimmSource

FP32 = "fp32"
"""The precision of a graph whose numbers are all float32."""

PRECISIONS = (FP32, "fp16", "int8")
"""The precisions of graphs."""

LIBRARIES = {
    "tamiz": "tamiz",
    "numpy": "numpy",
    "opencv": "cv2",
    "torch": "torch",
    "timm": "timm",
    "lightning": "lightning",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
}
"""Libraries whose versions a manifest names, and the modules that have them."""

GRAPH_LIBRARIES = ("tamiz", "numpy", "opencv", "onnx", "onnxruntime")
"""Those of a graph that comes without PyTorch."""


@dataclass(frozen=True)
class Candidate:
    """A graph that may become a version of a model.

    Attributes:
        graph: path of the ONNX file, in the standard form: ``image``, uint8 ``[batch, height, width, channels]``, to
            ``probabilities``, float32 ``[batch, labels]``.
        spec: labels, preprocessing and thresholds.
        precision: ``fp32``, ``fp16`` or ``int8``.
        accelerators: what computes the graph instead of ONNX Runtime's own kernels: the message
            ``optimization.execution_accelerators`` of config.pbtxt as JSON; empty for none.
        settings: the serving settings of the recipe; None if nothing says how the model should be served.
        manifest: how the candidate was made, which JSON can hold. Publication adds the precision, the accelerators and
            the hash of the graph.
        made_from: what was adapted or exported, for people, such as the path of a file of another tool; None if the
            path of the graph says it.

    Raises:
        UsageError: a value is of another type.
    """

    graph: Path
    spec: ModelSpec
    precision: str = FP32
    accelerators: Mapping[str, Any] = field(default_factory=dict)
    settings: ServingSettings | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    made_from: str | None = None

    def __post_init__(self) -> None:
        check_instance("spec", self.spec, ModelSpec)
        check_type("graph", self.graph, Path, "a pathlib.Path")
        check_choice("precision", self.precision, PRECISIONS)
        check_type("accelerators", self.accelerators, Mapping, "a dict, which is empty for none")
        check_instance("settings", self.settings, ServingSettings, optional=True)
        check_type("manifest", self.manifest, Mapping, "a dict")
        if self.made_from is not None:
            check_text("made_from", self.made_from, "a text, or None")

    @property
    def title(self) -> str:
        """What it is, for people."""
        return str(self.graph) if self.made_from is None else self.made_from

    @cached_property
    def onnx_sha256(self) -> str:
        """SHA-256 of the graph, which is read once: what passed the gate is what is published.

        Raises:
            ExportError: the graph cannot be read.
        """
        try:
            return sha256(self.graph)
        except OSError as exc:
            raise ExportError(f"{self.graph}: cannot be read: {os_reason(exc)}") from exc


def run_candidate(
    run: Run, graph: Path, *, precision: str = FP32, accelerators: Mapping[str, Any] | None = None, **details: object
) -> Candidate:
    """The candidate of an exported run.

    Args:
        run: the run.
        graph: path of the exported graph.
        precision: precision of the graph.
        accelerators: see `Candidate`.
        details: further entries of the manifest, such as ``parity``.
    """
    check_instance("run", run, Run)
    check_type("graph", graph, Path, "a pathlib.Path")
    check_choice("precision", precision, PRECISIONS)
    check_type("accelerators", accelerators, (Mapping, type(None)), "a dict, or None")
    manifest = {
        "recipe": run.recipe.name,
        "run": run.path.name,
        "weights_sha256": sha256(run.path / "model.safetensors"),
        "recipe_sha256": sha256(run.path / "recipe.yaml"),
        **details,
        "parity_images_sha256": sha256(kept) if (kept := run.path / PARITY_FILE).is_file() else None,
        "metrics": {split: run.metrics[split] for split in ("validation", "test")},
        "contents": run.contents,
        "mlflow_run_id": run.metrics["mlflow_run_id"],
        "mlflow_tracking_uri": _tracking_uri(run),
        "libraries": _versions(LIBRARIES),
    }
    return Candidate(graph, run.spec, precision, accelerators or {}, run.recipe.serving, manifest)


def _tracking_uri(run: Run) -> str | None:
    """Where the run is tracked in MLflow, as a manifest may say it; None if it is not."""
    uri = run.recipe.tracking.uri if run.metrics["mlflow_run_id"] else None
    return None if uri is None else recordable(uri)


def graph_candidate(path: Path, adaptation: Adaptation, folder: Path) -> Candidate:
    """The candidate of an ONNX file of any tool.

    Args:
        path: path of the ONNX file.
        adaptation: how it is put into the standard form; see `tamiz_release.adaptation.examine`.
        folder: the folder in which the adapted graph is written, if the file is not in the standard form already.

    Raises:
        ExportError: the graph cannot be adapted.
        OutputError: the folder cannot be written.
    """
    check_path("path", path, "the path of an ONNX file")
    check_instance("adaptation", adaptation, Adaptation)
    check_path("folder", folder, "the path of a folder")
    path, folder = Path(path), Path(folder)
    if adaptation.complete:
        return Candidate(path, adaptation.spec, find_precision(path))
    adapted = folder / "model.onnx"
    write_adapted(path, adaptation, adapted)
    source = {"file": path.name, "sha256": sha256(path), "adaptation": adaptation.model_dump(exclude={"spec"})}
    manifest = {"source": source, "libraries": _versions(GRAPH_LIBRARIES)}
    return Candidate(adapted, adaptation.spec, find_precision(adapted), manifest=manifest, made_from=str(path))


def timm_candidate(source: TimmSource, folder: Path) -> Candidate:
    """The candidate of a pretrained model of timm, which is exported.

    Args:
        source: the model.
        folder: the folder in which the graph is written.

    Raises:
        ExportError: PyTorch cannot export the network.
    """
    # Imported here, because it needs PyTorch and timm.
    from .sources.timm_model import TimmSource

    check_instance("source", source, TimmSource)
    check_path("folder", folder, "the path of a folder")
    graph = Path(folder) / "model.onnx"
    source.write_graph(graph)
    made = {"timm": source.name}
    if source.weights is not None:
        made |= {"weights": source.weights.name, "weights_sha256": sha256(source.weights)}
    manifest = {"source": made, "libraries": _versions(LIBRARIES)}
    return Candidate(graph, source.spec, FP32, manifest=manifest, made_from=source.title)


def _versions(libraries: Collection[str]) -> dict[str, str]:
    return {name: importlib.import_module(LIBRARIES[name]).__version__ for name in libraries}


def find_precision(path: Path) -> str:
    """The precision of an ONNX file: ``int8`` if it quantizes, ``fp16`` if weights are float16, otherwise ``fp32``."""
    graph = onnx.load(path, load_external_data=False).graph
    if any("QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in graph.node):
        return "int8"
    return "fp16" if any(each.data_type == onnx.TensorProto.FLOAT16 for each in graph.initializer) else FP32
