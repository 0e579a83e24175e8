"""FP16: graphs that compute in half precision, with float32 at the output.

Half precision overflows above 65,504 and rounds to 11 bits. Nodes whose activations come near to that on real images
stay in FP32; the thresholds are those of AutoCast in NVIDIA's Model Optimizer. The nodes behind the last layer stay in
FP32 too, since probabilities have few bits left in half precision.

A CPU cannot show what half precision does: ONNX Runtime computes such a graph in float32 there and removes the
conversions between nodes, so that nothing overflows. `open_rounding_session` keeps them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel
from onnxruntime.transformers.float16 import convert_float_to_float16

from tamiz.errors import ExportError, one_line
from tamiz.preprocessing import Pixels

from .calibration import Calibration
from .network import Network
from .rescue import Bench, Part, Trial, rescue

LARGEST_ACTIVATION = 512.0
"""A node stays in FP32 if one of its inputs or outputs is larger than this on a real image (AutoCast's default)."""

LARGEST_WEIGHT = 65504.0
"""A node stays in FP32 if one of its weights is larger than this, the largest number of half precision."""


@dataclass(frozen=True)
class HalfPrecision:
    """How a graph is converted.

    Attributes:
        float_nodes: names of the nodes that stay in FP32.
    """

    float_nodes: frozenset[str] = frozenset()

    def keep(self, nodes: frozenset[str]) -> HalfPrecision:
        """The same with further nodes in FP32."""
        return HalfPrecision(self.float_nodes | nodes)


class Converter:
    """Converts one graph in several ways.

    Args:
        graph: path of the FP32 graph, in the standard form of `tamiz_train.graph`.

    Attributes:
        network: the network of the graph.

    Raises:
        ExportError: the graph cannot be read.
    """

    def __init__(self, graph: Path) -> None:
        try:
            self._model = onnx.shape_inference.infer_shapes(onnx.load(graph))
        except Exception as exc:
            # onnx raises errors of protobuf, of the file system and its own.
            raise ExportError(f"{graph}: cannot be prepared for FP16: {one_line(exc)[:500]}") from exc
        self.network = Network(self._model)

    def write(self, precision: HalfPrecision, path: Path) -> None:
        """Write a graph in half precision; its input and output keep their types.

        Args:
            precision: which nodes stay in FP32.
            path: path of the ONNX file to write.

        Raises:
            ExportError: the graph cannot be converted.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        try:
            with warnings.catch_warnings():
                # It warns of each weight that is rounded to zero.
                warnings.simplefilter("ignore")
                converted = convert_float_to_float16(
                    model, keep_io_types=True, node_block_list=sorted(precision.float_nodes)
                )
            _remove_repeated(converted)
            _join_float_parts(converted, self.network.names)
            # The types of values between nodes, some of which the conversion leaves wrong; nothing needs them.
            del converted.graph.value_info[:]
            # The converter appends its nodes.
            ONNXModel(converted).topological_sort()
            onnx.save(converted, path)
        except Exception as exc:
            # It raises errors of onnx and its own.
            raise ExportError(f"the graph cannot be converted to FP16: {one_line(exc)[:500]}") from exc

    def large_parts(self, images: Pixels) -> list[Part]:
        """Find the nodes that would overflow, or nearly so, in half precision.

        Args:
            images: real images, uint8 ``[images, height, width, channels]``.

        Returns:
            a part of one node for each of them, with the largest magnitude of its inputs, outputs or weights.
        """
        activations = Calibration(self._model, images).largest()
        weights = {tensor.name: _magnitude(tensor) for tensor in self._model.graph.initializer}
        parts = []
        for node in self._model.graph.node:
            activation = max((activations.get(name, 0.0) for name in [*node.input, *node.output]), default=0.0)
            weight = max((weights.get(name, 0.0) for name in node.input), default=0.0)
            if activation > LARGEST_ACTIVATION:
                reason = f"its activations reach {activation:,.0f}"
            elif weight > LARGEST_WEIGHT:
                reason = f"its weights reach {weight:,.0f}"
            else:
                continue
            parts.append(Part(f"{node.op_type} {node.name}", frozenset({node.name}), reason))
        return parts


def search(
    converter: Converter,
    images: Pixels,
    bench: Bench[HalfPrecision],
    *,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Trial[HalfPrecision] | None:
    """Find which nodes must stay in FP32.

    Args:
        converter: converts the graph.
        images: real images, uint8 ``[images, height, width, channels]``.
        bench: measures graphs.
        on_progress: called with a line of text after each step.

    Returns:
        the graph that keeps the labels; None if none was found in time.
    """
    output = converter.network.output_nodes()
    parts = [Part("the output", output, "probabilities have few bits in half precision")] if output else []
    parts += converter.large_parts(images)
    precision = HalfPrecision(frozenset[str]().union(*(part.nodes for part in parts)))
    loss = bench.loss(precision)
    on_progress(f"FP16 with {len(precision.float_nodes)} nodes in FP32: other labels on {loss:.2f} % of the images")
    (speed,) = bench.speeds([precision])
    trial = Trial(precision, speed, tuple(parts))
    return trial if loss <= bench.limit else rescue(converter.network, bench, trial, on_progress=on_progress)


def _remove_repeated(model: onnx.ModelProto) -> None:
    """Remove all but one of equal conversions: the converter adds one for each node in FP32 that uses a value."""
    nodes = {tuple(node.output): node for node in reversed(model.graph.node)}
    kept = list(reversed(nodes.values()))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _join_float_parts(model: onnx.ModelProto, originals: frozenset[str]) -> None:
    """Remove the conversions to half precision and back between two nodes in FP32, where values would overflow.

    Args:
        model: the converted graph, which is changed in place.
        originals: names of the nodes of the FP32 graph; the converter added the others.
    """
    added = [node for node in model.graph.node if node.name not in originals]
    halved = {node.output[0]: node.input[0] for node in added if _casts_to(node, TensorProto.FLOAT16)}
    restored = {
        node.output[0]: halved[node.input[0]]
        for node in added
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in halved
    }
    for output in model.graph.output:
        if (source := restored.pop(output.name, None)) is not None:
            # The node in FP32 writes the output itself.
            (cast,) = (node for node in added if node.output[0] == output.name)
            model.graph.node.remove(cast)
            _rename(model, source, output.name)
            restored = {name: output.name if origin == source else origin for name, origin in restored.items()}
    for node in model.graph.node:
        node.input[:] = [restored.get(name, name) for name in node.input]
    # Conversions whose result nothing uses any more; those back first, since they use the others.
    for kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
        used = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
        for node in [node for node in model.graph.node if _casts_to(node, kind) and node.output[0] not in used]:
            model.graph.node.remove(node)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(each.name == "to" and each.i == kind for each in node.attribute)


def open_rounding_session(path: Path) -> ort.InferenceSession:
    """Load an FP16 graph so that a CPU rounds, and overflows, after each node as hardware of half precision does.

    It is slow. Sums within a node are computed in float32, as tensor cores do.

    Args:
        path: path of the ONNX file.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if kinds.get(name) == TensorProto.FLOAT16:
                # A node between the conversions, which ONNX Runtime would remove.
                node.output[index] = f"{name}_unrounded"
                nodes.append(helper.make_node("Identity", [node.output[index]], [name]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _magnitude(tensor: onnx.TensorProto) -> float:
    array = numpy_helper.to_array(tensor)
    return float(np.abs(array).max()) if array.size and array.dtype.kind == "f" else 0.0
