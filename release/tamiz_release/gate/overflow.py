"""Overflow: activations of an FP16 graph that no float16 can hold.

ONNX Runtime computes most FP16 operators on a CPU in float32, and rounds to float16 only where it must, so a layer that
overflows on a GPU can look right on a CPU. Here every activation is an output of the graph, which rounds it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from tamiz.errors import ExportError, InvalidImageError, one_line
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import INPUT_NAME, ModelSpec

from .images import GateImages

MAX_IMAGES = 16
"""The number of images whose activations are computed."""

_AT_ONCE = 4
"""The number of images that are computed together, since all of their activations are in memory."""


def find_overflows(graph: Path, spec: ModelSpec, images: GateImages | None) -> list[str]:
    """Names of the float16 activations that are infinite or NaN for an image.

    Args:
        graph: path of the ONNX file.
        spec: spec of the graph.
        images: the images, of which some are used; None uses noise.

    Raises:
        ExportError: the graph cannot be computed.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    # Other tools leave the types of activations behind that they removed from the graph.
    computed = {name for node in model.graph.node for name in node.output}
    halves = [
        value
        for value in model.graph.value_info
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16 and value.name in computed
    ]
    model.graph.output.extend(halves)
    names = [value.name for value in halves]
    if not names:
        return []
    pixels = _pixels(spec, images)
    overflowing: set[str] = set()
    try:
        session = ort.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
        for start in range(0, len(pixels), _AT_ONCE):
            activations = session.run(names, {INPUT_NAME: pixels[start : start + _AT_ONCE]})
            overflowing.update(
                name for name, array in zip(names, activations, strict=True) if not np.isfinite(array).all()
            )
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        raise ExportError(f"its activations cannot be computed: {one_line(exc)[:300]}") from exc
    return [name for name in names if name in overflowing]


def _options() -> Any:
    options = ort.SessionOptions()
    # Optimizations would only be undone by the outputs, and may refuse nodes that have become outputs.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _pixels(spec: ModelSpec, images: GateImages | None) -> Pixels:
    prepared = []
    for image in [] if images is None else images.spread(MAX_IMAGES).images.images:
        try:
            prepared.append(prepare(image, spec.preprocessing))
        except InvalidImageError:
            continue
    if prepared:
        return np.stack(prepared)
    return np.random.default_rng(0).integers(0, 256, (_AT_ONCE, *spec.preprocessing.shape), dtype=np.uint8)
