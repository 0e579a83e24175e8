"""Versions of ONNX: which ones the installed ONNX Runtime has, and converting a model to one of them."""

from __future__ import annotations

import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, version_converter

from tamiz.errors import ExportError, cut, one_line

OLDEST_OPSET = 11
"""The oldest version of ONNX's operators that is taken as it is; older ones are converted."""

IR_VERSIONS = (8, 10)
"""The versions of the file format that are written; a server that is some years old reads them."""


def newest_opset() -> int:
    """The newest version of ONNX's operators that the installed ONNX Runtime has."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])])
    for version in range(onnx.defs.onnx_opset_version(), OLDEST_OPSET, -1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=IR_VERSIONS[0])
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: S112 - a version that it does not have
            continue
        return version
    return OLDEST_OPSET


def make_supported(model: ModelProto) -> ModelProto:
    """The model with operators and a file format that the installed ONNX Runtime has.

    Raises:
        ExportError: onnx cannot convert an operator.
    """
    try:
        return _convert(model)
    except Exception as exc:
        # The converter raises RuntimeError and others.
        raise ExportError(
            f"onnx cannot convert the graph from version {opset(model)} of ONNX's operators to one that ONNX Runtime "
            f"has: {cut(one_line(exc), 300)}; export it with opset 20"
        ) from exc


def is_supported(model: ModelProto) -> bool:
    """Whether the installed ONNX Runtime, and servers that are some years old, have the versions of a model."""
    return OLDEST_OPSET <= opset(model) <= newest_opset() and IR_VERSIONS[0] <= model.ir_version <= IR_VERSIONS[1]


def _convert(model: ModelProto) -> ModelProto:
    version = opset(model)
    if version < OLDEST_OPSET:
        model = version_converter.convert_version(model, 13)
    elif version > (newest := newest_opset()):
        model = version_converter.convert_version(model, newest)
    model.ir_version = min(max(model.ir_version, IR_VERSIONS[0]), IR_VERSIONS[1])
    return model


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
