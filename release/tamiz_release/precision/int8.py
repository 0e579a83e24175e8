"""INT8: graphs that compute with 8-bit integers, quantized statically in the QDQ format of ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tamiz.errors import ExportError, one_line
from tamiz.preprocessing import Pixels

from .calibration import METHODS, Calibration, Method
from .network import WEIGHTED, Network
from .rescue import Part


@dataclass(frozen=True)
class Quantization:
    """How a graph is quantized.

    Attributes:
        method: how the range of each activation follows from the calibration images: their smallest and largest
            values, percentiles, or the range that loses the least information (entropy).
        per_channel: whether each output channel of a weight has a scale of its own.
        reduce_range: whether weights have 7 bits. On an x86 processor without VNNI instructions, sums of products of 8
            bits can saturate.
        symmetric: whether the graph is quantized as TensorRT wants it: activations are signed with the zero point 0,
            only the inputs of layers that have weights are quantized, so that TensorRT can fuse what lies between them,
            and biases stay in FP32. On a CPU such a graph is slow.
        float_nodes: names of the nodes that stay in FP32, besides those behind the last layer.
    """

    method: Method = "minmax"
    per_channel: bool = True
    reduce_range: bool = False
    symmetric: bool = False
    float_nodes: frozenset[str] = frozenset()

    def keep(self, nodes: frozenset[str]) -> Quantization:
        """The same with further nodes in FP32."""
        return replace(self, float_nodes=self.float_nodes | nodes)

    def __str__(self) -> str:
        scales = "channel" if self.per_channel else "tensor"
        return f"ranges by {self.method}, scales per {scales}" + (", weights of 7 bits" if self.reduce_range else "")


class Quantizer:
    """Quantizes one graph in several ways.

    Args:
        graph: path of the FP32 graph, in the standard form of `tamiz_train.graph`.
        images: calibration images, uint8 ``[images, height, width, channels]``, prepared as the server gets them; at
            least one.
        folder: an empty folder for intermediate files.

    Attributes:
        network: the network of the graph, as it is quantized: batch normalisation is folded into the convolutions.
        output: the nodes behind the last layer, which always stay in FP32; no part if there are none.

    Raises:
        ExportError: the graph cannot be prepared for quantization.
    """

    def __init__(self, graph: Path, images: Pixels, folder: Path) -> None:
        self._folder = folder
        self._prepared = folder / "prepared.onnx"
        try:
            with _quiet():
                # Folds batch normalisation into convolutions, and adds the shapes that the quantizer needs.
                quant_pre_process(graph, self._prepared, skip_symbolic_shape=True)
            model = onnx.load(self._prepared)
            self._calibration = Calibration(model, images)
            # Now, so that the first graph takes no longer than the others, by which a search plans its time.
            self._ranges("minmax")
        except Exception as exc:
            # It raises errors of ONNX Runtime, onnx and its own.
            raise ExportError(f"{graph}: cannot be prepared for INT8: {one_line(exc)[:500]}") from exc
        self._metadata = list(onnx.load(graph, load_external_data=False).metadata_props)
        self.network = Network(model)
        nodes = self.network.output_nodes()
        # In INT8, those of an image need not sum to 1.
        self.output = (Part("the output", nodes, "probabilities need more than 8 bits"),) if nodes else ()

    def write(self, quantization: Quantization, path: Path) -> None:
        """Write a quantized graph, with the metadata of the FP32 graph.

        Args:
            quantization: how it is quantized.
            path: path of the ONNX file to write.

        Raises:
            ExportError: the graph cannot be quantized this way.
        """
        try:
            with _quiet():
                quantize_static(self._prepared, path, **self._options(quantization))
            model = onnx.load(path)
            del model.metadata_props[:]
            model.metadata_props.extend(self._metadata)
            onnx.save(model, path)
        except Exception as exc:
            raise ExportError(f"the graph cannot be quantized by {quantization}: {one_line(exc)[:500]}") from exc

    def _options(self, quantization: Quantization) -> dict[str, Any]:
        layers = sorted(WEIGHTED)
        extra: dict[str, Any] = {}
        if quantization.symmetric:
            extra |= {
                "ActivationSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": layers,
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
            }
        return {
            "quant_format": QuantFormat.QDQ,
            "op_types_to_quantize": layers if quantization.symmetric else None,
            "per_channel": quantization.per_channel,
            "reduce_range": quantization.reduce_range,
            "activation_type": QuantType.QInt8 if quantization.symmetric else QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            "nodes_to_exclude": sorted(quantization.float_nodes | self.network.output_nodes()),
            "calibrate_method": METHODS[quantization.method],
            "calibration_cache_path": self._ranges(quantization.method),
            "extra_options": extra,
        }

    def _ranges(self, method: Method) -> Path:
        path = self._folder / f"{method}.json"
        if not path.is_file():
            self._calibration.write(method, path)
        return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime's quantizer, which prints, warns, and logs hints through the root logger."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
