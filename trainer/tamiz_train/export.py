"""Export: from a run to the ONNX graph that every server runs, checked against PyTorch.

The graph takes ``image``, uint8 ``[batch, height, width, channels]``, and gives ``probabilities``, float32
``[batch, classes]``; normalisation and the softmax or sigmoid are inside.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import onnx
import onnxruntime as ort
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import tamiz
from tamiz.errors import ExportError
from tamiz.files import staged, write_whole
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA, ModelSpec
from tamiz_server.repository import sha256

from .data import Batch, Split, create_loader, load_data
from .metrics import decide
from .models import Classifier
from .run import Run

TOLERANCE = 1e-4
"""Largest difference of two probabilities: float32 sums in another order, not another computation."""

PARITY_IMAGES = 256


@dataclass(frozen=True)
class Parity:
    """How far the exported graph is from the trained model, on real validation images.

    Attributes:
        images: compared.
        largest_difference: of two probabilities.
        agreeing: images with the same most probable label; multilabel: with the same labels over their thresholds.
        tolerance: what was allowed.
    """

    images: int
    largest_difference: float
    agreeing: int
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the graph does what the model does."""
        return self.largest_difference <= self.tolerance and self.agreeing == self.images

    def to_dict(self) -> dict[str, Any]:
        """The figures, as they are stored."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"labels agree on {self.agreeing} of {self.images} validation images, largest difference of "
            f"probabilities {self.largest_difference:.1e} (allowed {self.tolerance:.0e})"
        )


@dataclass(frozen=True)
class Exported:
    """An exported graph beside its run."""

    path: Path
    parity: Parity


def export(run: Run) -> Exported:
    """Export a run's model to ``model.onnx`` in its folder, and compare the two.

    Raises:
        ExportError: the graph cannot be made, or does not do what the model does; then no graph is written.
        UsageError: the run's folder cannot be written.
    """
    classifier = run.load_model()
    path = run.path / "model.onnx"
    with staged(path) as part:
        _write_graph(classifier, run.spec, part)
        parity = compare(classifier, part, run.spec, _validation(run))
        if not parity.holds:
            raise ExportError(f"{run.path}: the exported graph is not the trained model: {parity}")
    write_whole(run.path / "parity.json", json.dumps(parity.to_dict(), indent=2))
    return Exported(path, parity)


def compare(classifier: Classifier, graph: Path, spec: ModelSpec, images: Split) -> Parity:
    """Run the same images through PyTorch and through the graph, in batches of several sizes."""
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    largest, agreeing, count = 0.0, 0, 0
    for batch_size in (1, 7):
        # One image alone, and several: a batch dimension that was frozen shows here.
        part = slice(0, 1) if batch_size == 1 else slice(1, None)
        some = Split(images.name, images.images[part], images.targets[part])
        loader: DataLoader[Batch] = create_loader(some, spec.preprocessing, batch_size=batch_size)
        for batch in loader:
            if not len(batch.targets):
                continue
            with torch.inference_mode():
                expected = classifier.probabilities(classifier(batch.images)).numpy()
            (actual,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch.images.numpy()})
            difference = np.abs(actual - expected).max()
            # A NaN is further away than anything.
            largest = max(largest, float(difference) if np.isfinite(difference) else np.inf)
            agreeing += sum(map(np.array_equal, decide(actual, spec), decide(expected, spec)))
            count += len(batch.targets)
    if count == 0:
        raise ExportError("no validation image could be read to compare the exported graph on")
    return Parity(count, largest, agreeing, TOLERANCE)


def read_spec(graph: Path) -> ModelSpec:
    """The spec in an ONNX file's metadata, tried on the graph itself.

    Raises:
        ExportError: it is not an ONNX file, has no spec, or does not run as its spec says.
        SpecError: the spec cannot be read.
    """
    try:
        model = onnx.load(graph, load_external_data=False)
    except Exception as exc:
        # onnx raises protobuf's, its own, or the file system's errors.
        raise ExportError(f"{graph}: not an ONNX file: {exc}") from exc
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if SPEC_METADATA not in metadata:
        raise ExportError(f"{graph}: no {SPEC_METADATA} in its metadata; only a graph that Tamiz exported has one")
    spec = ModelSpec.from_json(metadata[SPEC_METADATA], source=str(graph))
    try:
        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (probabilities,) = session.run([OUTPUT_NAME], {INPUT_NAME: np.zeros((2, *spec.preprocessing.shape), np.uint8)})
    except Exception as exc:
        # ONNX Runtime raises classes of its own for each way in which a graph can be wrong.
        raise ExportError(f"{graph}: does not run as its spec says: {' '.join(str(exc).split())}") from exc
    if probabilities.shape != (2, len(spec.labels)) or probabilities.dtype != np.float32:
        raise ExportError(
            f"{graph}: 2 images and {len(spec.labels)} labels gave {probabilities.dtype} {list(probabilities.shape)}"
        )
    return spec


def describe(run: Run, exported: Exported) -> dict[str, Any]:
    """A manifest: how the exported version came to be."""
    return {
        "recipe": run.recipe.name,
        "run": run.path.name,
        "weights_sha256": sha256(run.path / "model.safetensors"),
        "recipe_sha256": sha256(run.path / "recipe.yaml"),
        "parity": exported.parity.to_dict(),
        "metrics": {split: run.metrics[split] for split in ("validation", "test")},
        "mlflow_run_id": run.metrics["mlflow_run_id"],
        "libraries": {
            "tamiz": tamiz.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "lightning": lightning.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": ort.__version__,
        },
    }


class _Served(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier.probabilities(self.classifier(image))


def _write_graph(classifier: Classifier, spec: ModelSpec, path: Path) -> None:
    # A batch of one would be frozen into the graph.
    example = torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The exporter's deprecations of its own parts.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Served(classifier).eval(),
                (example,),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as exc:
        # The exporter has no error of its own: any operator may fail in its own way.
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise ExportError(f"the model cannot be exported to ONNX: {first}") from exc
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key=SPEC_METADATA, value=spec.to_json())
    onnx.save(model, path)


def _validation(run: Run) -> Split:
    split = load_data(run.recipe.data, run.recipe.train.seed).validation
    # Spread over the classes, which folders keep in order.
    chosen = np.linspace(0, len(split) - 1, min(len(split), PARITY_IMAGES)).astype(int)
    return split.take(chosen)
