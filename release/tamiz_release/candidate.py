"""Candidates: graphs that may become a version of a model, whatever they were made from.

A run's export and an adapted foreign graph are candidates; the gate measures a candidate, and publication adds it to a
repository.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from tamiz.errors import UsageError
from tamiz.files import sha256
from tamiz.spec import ModelSpec
from tamiz_server.config import ServingSettings
from tamiz_train.graph import read_spec
from tamiz_train.run import PARITY_FILE, Run

from .mlflow_store import recordable

FP32 = "fp32"
"""The precision of a graph whose numbers are all float32."""

_LIBRARIES = {
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
        manifest: how the candidate was made, which JSON can hold. Publication adds the precision and the accelerators.
    """

    graph: Path
    spec: ModelSpec
    precision: str = FP32
    accelerators: Mapping[str, Any] = field(default_factory=dict)
    settings: ServingSettings | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)


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
        "mlflow_tracking_uri": recordable(uri)
        if (uri := run.recipe.tracking.uri) and run.metrics["mlflow_run_id"]
        else None,
        "libraries": {name: importlib.import_module(module).__version__ for name, module in _LIBRARIES.items()},
    }
    return Candidate(graph, run.spec, precision, accelerators or {}, run.recipe.serving, manifest)


def graph_candidate(path: Path) -> Candidate:
    """The candidate of a graph that `tamiz export` wrote.

    Raises:
        UsageError: there is no such file.
        ExportError: the file is not an ONNX file, has no spec, or does not match its spec.
        SpecError: the spec cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return Candidate(path, read_spec(path), find_precision(path))


def find_precision(path: Path) -> str:
    """The precision of an ONNX file: ``int8`` if it quantizes, ``fp16`` if weights are float16, otherwise ``fp32``."""
    graph = onnx.load(path, load_external_data=False).graph
    if any("QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in graph.node):
        return "int8"
    return "fp16" if any(each.data_type == onnx.TensorProto.FLOAT16 for each in graph.initializer) else FP32
