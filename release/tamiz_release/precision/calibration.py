"""Calibration: the range of each activation on real images, by which ONNX Runtime quantizes it.

ONNX Runtime's own calibrators keep the activations of all images in memory for a histogram, and compute it a hundred
times more slowly than here. The thresholds are still found by ONNX Runtime, from these histograms.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import CalibrationMethod, HistogramCollector, TensorsData, save_tensors_data

from tamiz.preprocessing import Pixels
from tamiz.spec import INPUT_NAME

Method = Literal["minmax", "percentile", "entropy"]

METHODS: dict[Method, Any] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}

PERCENTILE = 99.99
"""The part of the values of an activation, in percent, that the range of the method ``percentile`` holds."""

_BINS = 2048
_ENTROPY_BINS = 128
_BYTES_AT_ONCE = 2**28


class Calibration:
    """The ranges of the activations of a graph.

    Args:
        graph: the FP32 graph, with shapes.
        images: calibration images, uint8 ``[images, height, width, channels]``; at least one.
    """

    def __init__(self, graph: onnx.ModelProto, images: Pixels) -> None:
        self._images = images
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        values = [*model.graph.value_info, *model.graph.output]
        self._names = [value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT]
        sizes = [_elements(value) for value in values if value.name in set(self._names)]
        self._batch_size = max(1, min(8, _BYTES_AT_ONCE // (4 * max(1, sum(sizes)))))
        del model.graph.output[:]
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._names)
        options = ort.SessionOptions()
        # Fused operators would hide activations.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def largest(self) -> dict[str, float]:
        """The largest magnitude of each activation, by its name; infinite where a value is NaN or infinite."""
        return {name: float(max(abs(low), abs(high))) for name, (low, high) in self._extremes.items()}

    def write(self, method: Method, path: Path) -> None:
        """Write the ranges that follow from a method, as `onnxruntime.quantization.quantize_static` reads them.

        Args:
            method: how the range of an activation follows from its values.
            path: path of the JSON file.
        """
        if method == "minmax":
            ranges: dict[str, Any] = {
                name: (np.float32(low), np.float32(high)) for name, (low, high) in self._extremes.items()
            }
        else:
            bins = _BINS if method == "percentile" else _ENTROPY_BINS
            collector = HistogramCollector(method, False, bins, _ENTROPY_BINS, PERCENTILE, "same")
            for name, (low, high) in self._extremes.items():
                bound = np.float32(max(abs(low), abs(high), 1e-8))
                counts = self._histograms[name].reshape(bins, -1).sum(1)
                edges = np.linspace(-bound, bound, bins + 1, dtype=np.float32)
                collector.histogram_dict[name] = (counts, edges, np.float32(low), np.float32(high), bound)
            # It prints what it does.
            with contextlib.redirect_stdout(io.StringIO()):
                ranges = collector.compute_collection_result()
        save_tensors_data(TensorsData(METHODS[method], ranges), path)

    @cached_property
    def _extremes(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each activation, with zero between them."""
        extremes = dict.fromkeys(self._names, (0.0, 0.0))
        for name, values in self._activations():
            low, high = float(values.min(initial=0)), float(values.max(initial=0))
            if not np.isfinite([low, high]).all():
                low, high = -np.inf, np.inf
            extremes[name] = min(low, extremes[name][0]), max(high, extremes[name][1])
        return extremes

    @cached_property
    def _histograms(self) -> dict[str, npt.NDArray[np.int64]]:
        """Number of values of each activation in `_BINS` bins of equal width, symmetric about zero."""
        histograms = {name: np.zeros(_BINS, np.int64) for name in self._names}
        for name, values in self._activations():
            bound = max(map(abs, self._extremes[name])) or 1.0
            bins = ((values.ravel() + np.float32(bound)) * np.float32(_BINS / 2 / bound)).astype(np.int32)
            histograms[name] += np.bincount(bins.clip(0, _BINS - 1, out=bins), minlength=_BINS)
        return histograms

    def _activations(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        for start in range(0, len(self._images), self._batch_size):
            results = self._session.run(self._names, {INPUT_NAME: self._images[start : start + self._batch_size]})
            yield from zip(self._names, results, strict=True)


def _elements(value: onnx.ValueInfoProto) -> int:
    return int(np.prod([dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]))
