"""Overflow: activations of an FP16 graph that no float16 can hold.

ONNX Runtime computes most FP16 operators on a CPU in float32, and rounds to float16 only where it must, so a layer that
overflows on a GPU can look right on a CPU. Here every activation is an output of the graph, which rounds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Overflows:
    """The activations of a graph that no float16 can hold.

    Attributes:
        names: their names, in the order of computation.
        unchecked: the number of activations that could not be checked: those inside of branches and loops.
    """

    names: tuple[str, ...]
    unchecked: int


def find_overflows(graph: Path, spec: ModelSpec, images: GateImages | None) -> Overflows:
    """Find the float16 activations that are infinite or NaN for an image.

    Args:
        graph: path of the ONNX file.
        spec: spec of the graph.
        images: the images, of which some are used; None uses noise.

    Raises:
        ExportError: the graph cannot be computed.
    """
    pixels = _pixels(spec, images)
    overflowing: set[str] = set()
    try:
        model = onnx.load(graph)
        unchecked = sum(len(inner.node) for node in model.graph.node for inner in _inner_graphs(node))
        known = {output.name for output in model.graph.output}
        computed = dict.fromkeys(name for node in model.graph.node for name in node.output if name)
        # Without their types, which ONNX Runtime knows of operators that are not those of ONNX, too.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed if name not in known)
        session = ort.InferenceSession(model.SerializeToString(), _options(), providers=["CPUExecutionProvider"])
        halves = {output.name for output in session.get_outputs() if output.type == "tensor(float16)"}
        names = [name for name in computed if name in halves]
        for start in range(0, len(pixels) if names else 0, _AT_ONCE):
            activations = session.run(names, {INPUT_NAME: pixels[start : start + _AT_ONCE]})
            overflowing.update(
                name for name, array in zip(names, activations, strict=True) if not np.isfinite(array).all()
            )
    except Exception as exc:
        # ONNX and ONNX Runtime have an error class for each way in which a graph can be wrong.
        raise ExportError(f"its activations cannot be computed: {one_line(exc)[:300]}") from exc
    return Overflows(tuple(name for name in names if name in overflowing), unchecked)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node, such as the branches of an ``If``, and those within them."""
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield graph
            for inner in graph.node:
                yield from _inner_graphs(inner)


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
