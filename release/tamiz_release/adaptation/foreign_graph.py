"""A classifier graph of any tool, run as it is: what an adaptation adds to a graph is computed by NumPy here.

It is the reference that an adapted graph must agree with, and what `tamiz evaluate` and `tamiz compare` run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tamiz.errors import ExportError, cut, one_line
from tamiz.preprocessing import Pixels

from .graph_file import load_graph
from .onnx_versions import make_supported
from .wrapping import TINIEST, Adaptation


def open_foreign(path: Path) -> ForeignGraph:
    """Load a graph after it has been examined.

    Raises:
        ExportError: the file cannot be read, or ONNX Runtime cannot load the graph.
    """
    return ForeignGraph(make_supported(load_graph(path)).SerializeToString(), str(path))


class ForeignGraph:
    """A classifier graph, on the CPU.

    Args:
        source: content of the ONNX file.
        name: name of the graph, for messages.
        threads: number of threads of ONNX Runtime; 0 uses all processors.

    Raises:
        ExportError: ONNX Runtime cannot load the graph.

    Attributes:
        inputs: the inputs, as ONNX Runtime describes them.
        outputs: the outputs.
    """

    def __init__(self, source: bytes, name: str, *, threads: int = 0) -> None:
        self._name = name
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            # ONNX Runtime has an error class for each way in which a graph can be wrong.
            raise ExportError(f"{name}: cannot be loaded: {cut(one_line(exc), 400)}") from exc
        self.inputs: list[ort.NodeArg] = self._session.get_inputs()
        self.outputs: list[ort.NodeArg] = self._session.get_outputs()

    def run(self, prepared: npt.NDArray[Any]) -> dict[str, Any]:
        """Run the graph as it is.

        Args:
            prepared: its only input.

        Returns:
            its outputs by name.

        Raises:
            ExportError: it fails.
        """
        try:
            results = self._session.run(None, {self.inputs[0].name: prepared})
        except Exception as exc:
            raise ExportError(f"{self._name}: cannot be run: {cut(one_line(exc), 400)}") from exc
        return dict(zip((each.name for each in self.outputs), results, strict=True))

    def probabilities(self, images: Pixels, adaptation: Adaptation) -> npt.NDArray[np.float32]:
        """Prepare the input, run the graph, and make probabilities of its output.

        Args:
            images: uint8 ``[batch, height, width, channels]``.
            adaptation: what the graph needs.

        Returns:
            float32 ``[batch, labels]``.

        Raises:
            ExportError: the graph fails, or its output does not have one value for each label.
        """
        return to_probabilities(self.raw_outputs(images, adaptation), adaptation)

    def raw_outputs(self, images: Pixels, adaptation: Adaptation) -> npt.NDArray[np.float64]:
        """The output of the graph that has the labels, float64 ``[batch, outputs]``, as it is."""
        size = adaptation.batch or len(images)
        return np.concatenate(
            [self._raw_batch(images[start : start + size], size, adaptation) for start in range(0, len(images), size)]
        )

    def _raw_batch(self, images: Pixels, size: int, adaptation: Adaptation) -> npt.NDArray[np.float64]:
        # A graph of a fixed batch size gets a full batch.
        padding = np.zeros((size - len(images), *images.shape[1:]), np.uint8)
        output = self.run(to_input(np.concatenate([images, padding]), adaptation))[adaptation.output]
        if len(output) != size:
            raise ExportError(
                f"{self._name}: no classifier of images: for {size} images, its output {adaptation.output} is "
                f"{list(output.shape)}"
            )
        raw: npt.NDArray[np.float64] = output.reshape(size, -1)[: len(images)].astype(np.float64)
        return raw


def to_input(images: Pixels, adaptation: Adaptation) -> npt.NDArray[Any]:
    """What a foreign graph takes for prepared images, uint8 ``[batch, height, width, channels]``."""
    prepared: npt.NDArray[Any] = images
    if adaptation.dtype != "uint8":
        mean, std = adaptation.normalisation
        prepared = ((images / np.float32(255) - mean) / std).astype(adaptation.dtype)
    if adaptation.channel_order == "BGR":
        prepared = prepared[..., ::-1]
    if adaptation.layout == "NCHW":
        prepared = prepared.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(prepared)


def to_probabilities(raw: npt.NDArray[np.float64], adaptation: Adaptation) -> npt.NDArray[np.float32]:
    """The probabilities, float32 ``[batch, labels]``, that outputs, float64 ``[batch, outputs]``, stand for."""
    outputs = raw
    if adaptation.background is not None:
        outputs = np.delete(outputs, adaptation.background, axis=1)
    if adaptation.activation == "softmax":
        outputs = np.exp(outputs - outputs.max(1, keepdims=True))
        outputs /= outputs.sum(1, keepdims=True)
    elif adaptation.activation == "sigmoid":
        outputs = 0.5 * (1 + np.tanh(outputs / 2))
    elif adaptation.background is not None and adaptation.spec.task == "multiclass":
        outputs = np.maximum(outputs, TINIEST)
        outputs = outputs / outputs.sum(1, keepdims=True)
    return outputs.astype(np.float32)
