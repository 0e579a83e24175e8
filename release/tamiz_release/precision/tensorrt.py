"""TensorRT: what config.pbtxt says so that the ``onnxruntime`` backend computes a graph with TensorRT.

The server builds an engine from the graph, for its own GPU, when it loads the version. The keys are those of the native
backend (source: triton-inference-server/onnxruntime_backend, README).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from tamiz.errors import UsageError
from tamiz.spec import INPUT_NAME, ModelSpec

WORKSPACE_BYTES = 1 << 30
"""Memory of the GPU that TensorRT may use while it computes an engine, in bytes; the default of ONNX Runtime."""

PRECISIONS = ("fp16", "int8")
"""Precisions of the graphs that TensorRT computes."""


def profile_shapes(spec: ModelSpec, max_batch_size: int) -> dict[str, tuple[int, ...]]:
    """The shapes of images for which an engine is built: from one image to the largest batch, for which it is fastest.

    Args:
        spec: spec of the model.
        max_batch_size: the largest batch; 0, as in a configuration without batches, is 1.

    Returns:
        ``min``, ``opt`` and ``max``, each ``[batch, height, width, channels]``.
    """
    largest = max(1, max_batch_size)
    return {
        name: (batch, *spec.preprocessing.shape) for name, batch in (("min", 1), ("opt", largest), ("max", largest))
    }


def tensorrt_accelerators(
    precision: str, spec: ModelSpec, max_batch_size: int, engine_cache: str | None = None
) -> dict[str, Any]:
    """The accelerators of a version that TensorRT computes.

    Args:
        precision: precision of the graph: ``fp16`` or ``int8``.
        spec: spec of the model.
        max_batch_size: the largest batch; publication replaces it by that of the configuration.
        engine_cache: an absolute folder on the server, in which it keeps engines and timings between its starts; None
            builds the engines at each start, which takes minutes.

    Returns:
        the message ``optimization.execution_accelerators`` of config.pbtxt as JSON.

    Raises:
        UsageError: the precision is another one, or the folder is not absolute.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"target tensorrt: the precision is {precision}; give fp16 or int8")
    parameters = {
        # For TensorRT before 11; newer ones take the types from the graph.
        "precision_mode": precision.upper(),
        "max_workspace_size_bytes": str(WORKSPACE_BYTES),
    }
    if engine_cache is not None:
        if not PurePosixPath(engine_cache).is_absolute():
            raise UsageError(f"engine cache {engine_cache}: give an absolute path, which is a folder on the server")
        for kind in ("engine", "timing"):
            parameters |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": engine_cache}
    for name, shape in profile_shapes(spec, max_batch_size).items():
        parameters[f"trt_profile_{name}_shapes"] = f"{INPUT_NAME}:{'x'.join(map(str, shape))}"
    return {"gpu_execution_accelerator": [{"name": "tensorrt", "parameters": parameters}]}


def require_signed(graph: Path) -> None:
    """Check that TensorRT can compute an INT8 graph: it takes signed numbers with the zero point 0 only.

    Args:
        graph: path of the ONNX file.

    Raises:
        UsageError: it cannot.
    """
    if (problem := next(_zero_point_problems(onnx.load(graph)), None)) is not None:
        raise UsageError(
            f"{graph}: target tensorrt: {problem}, and TensorRT takes signed INT8 with the zero point 0; "
            "`tamiz export RUN --precision int8 --target tensorrt` makes such a graph of a run"
        )


def _zero_point_problems(model: onnx.ModelProto) -> Iterator[str]:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if len(node.input) < 3:
            # Then numbers are unsigned.
            yield f"{node.op_type} {node.name} has no zero point"
        elif (tensor := constants.get(node.input[2])) is None:
            yield f"the zero point {node.input[2]} is computed"
        elif tensor.data_type != TensorProto.INT8:
            yield f"the zero point {tensor.name} is of type {TensorProto.DataType.Name(tensor.data_type)}"
        elif numpy_helper.to_array(tensor).any():
            yield f"the zero point {tensor.name} is not 0"
