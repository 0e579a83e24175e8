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
    """Read the spec from an ONNX file's metadata, and check that the graph matches it.

    Raises:
        ExportError: the file is not an ONNX file, has no spec, or does not match its spec.
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
    try:
        probabilities = Graph(path).probabilities(np.zeros((2, *spec.preprocessing.shape), np.uint8))
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        raise ExportError(f"{path}: does not match its spec: {one_line(exc)}") from exc
    if probabilities.shape != (2, len(spec.labels)) or probabilities.dtype != np.float32:
        raise ExportError(
            f"{path}: does not match its spec: the output for 2 images and {len(spec.labels)} labels is "
            f"{probabilities.dtype} {list(probabilities.shape)}"
        )
