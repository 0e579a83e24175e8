"""The ONNX graph of a model: running it, and reading the spec that Tamiz writes into it. Needs no PyTorch.

The graph takes ``image``, uint8 ``[batch, height, width, channels]``, and returns ``probabilities``, float32
``[batch, classes]``; normalisation and the softmax or sigmoid are part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from tamiz.errors import ExportError, one_line
from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA, ModelSpec

TOLERANCE = 1e-2
"""How far probabilities may lie outside of 0 to 1, and their sum from 1: graphs in half precision round that much."""


class Graph:
    """A graph loaded into ONNX Runtime, on the CPU.

    Args:
        path: path of the ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Run the graph.

        Args:
            images: uint8 ``[batch, height, width, channels]``.

        Returns:
            float32 ``[batch, classes]``.
        """
        (probabilities,) = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})
        return cast("npt.NDArray[np.float32]", probabilities)


def read_spec(path: Path) -> ModelSpec:
    """Read the spec from an ONNX file's metadata, and check on random images that the graph matches it.

    Raises:
        ExportError: the file is not an ONNX file, has no spec, or does not match its spec; or its outputs are not
            probabilities.
        SpecError: the spec cannot be read.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as exc:
        # onnx raises errors of protobuf, of the file system and its own.
        raise ExportError(f"{path}: not an ONNX file: {exc}") from exc
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if SPEC_METADATA not in metadata:
        raise ExportError(f"{path}: no {SPEC_METADATA} in its metadata; publish a graph that `tamiz export` wrote")
    spec = ModelSpec.from_json(metadata[SPEC_METADATA], source=str(path))
    _check(path, spec)
    return spec


def _check(path: Path, spec: ModelSpec) -> None:
    # A constant image too, and noise of several strengths: the outputs of noise alone can be almost equal.
    noise = np.random.default_rng(0).integers(0, 256, (7, *spec.preprocessing.shape))
    images = (noise * np.linspace(0, 1, 7).reshape(-1, 1, 1, 1)).astype(np.uint8)
    try:
        graph = Graph(path)
        probabilities = graph.probabilities(images)
        # A batch of another size, which shows a batch dimension that is a constant.
        graph.probabilities(images[:2])
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        raise ExportError(f"{path}: does not match its spec: {one_line(exc)}") from exc
    if probabilities.shape != (len(images), len(spec.labels)) or probabilities.dtype != np.float32:
        raise ExportError(
            f"{path}: does not match its spec: the output for {len(images)} images and {len(spec.labels)} labels is "
            f"{probabilities.dtype} {list(probabilities.shape)}"
        )
    check_probabilities(probabilities, spec, str(path))


def check_probabilities(outputs: npt.NDArray[np.float32], spec: ModelSpec, source: str) -> None:
    """Check that the outputs of a model are probabilities.

    Args:
        outputs: float32 ``[images, labels]``, for images of any content.
        spec: spec of the model.
        source: name of the model, for the error message.

    Raises:
        ExportError: an output is not finite or not between 0 and 1; or the outputs of an image do not sum to 1, which
            those of a multiclass model must.
    """
    if problem := find_problem(outputs, spec):
        function = "softmax over the labels" if spec.task == "multiclass" else "sigmoid"
        raise ExportError(
            f"{source}: its outputs are not probabilities: {problem}; if they are logits, end the graph with a "
            f"{function}"
        )


def find_problem(outputs: npt.NDArray[np.float32], spec: ModelSpec) -> str | None:
    """Why the outputs of a model are not probabilities; None if they are."""
    if not np.isfinite(outputs).all():
        return f"{np.count_nonzero(~np.isfinite(outputs)):,} of {outputs.size:,} values are NaN or infinite"
    low, high = float(outputs.min()), float(outputs.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        return f"they lie between {low:.4g} and {high:.4g}, not between 0 and 1"
    sums = outputs.sum(1, dtype=np.float64)
    if spec.task == "multiclass" and (np.abs(sums - 1) > TOLERANCE).any():
        return f"those of an image sum to between {sums.min():.4g} and {sums.max():.4g}, not to 1"
    return None
