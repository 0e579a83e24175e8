"""Adaptation: any classifier graph wrapped into the standard one, with onnx's own composer. Needs no PyTorch.

The standard graph takes ``image``, uint8 ``[batch, height, width, channels]``, and returns ``probabilities``, float32
``[batch, labels]``. What is put before a foreign graph makes its input of that: cast, order of the channels, layout,
normalisation. What is put after it makes probabilities of its output: without a background class, by softmax or
sigmoid. `tamiz_release.adaptation.examination` finds out what a graph needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tamiz.arguments import check_instance, check_path
from tamiz.document import Document
from tamiz.errors import ExportError, cut, one_line
from tamiz.files import staged
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, SPEC_METADATA, ModelSpec

from .dynamic_batch import free_batch
from .graph_file import load_graph
from .onnx_versions import make_supported, opset

TINIEST = 1e-30
"""The smallest probability whose logarithm is taken."""

Step = tuple[str, npt.NDArray[np.generic] | None, dict[str, Any]]
"""An operator, the constant that is its second input, and its attributes."""

_PREFIX = "model/"

_TYPES = {
    "uint8": TensorProto.UINT8,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


class Adaptation(Document):
    """How a graph is made a standard one.

    Attributes:
        spec: the spec of the standard graph.
        input: name of the graph's input.
        output: name of the output that has the labels.
        layout: ``NCHW`` or ``NHWC``.
        dtype: type of the input: ``uint8``, ``float16``, ``float32`` or ``float64``.
        channel_order: ``RGB`` or ``BGR``; the spec's normalisation is in the order RGB.
        activation: what makes probabilities of the outputs.
        background: index of the output that is dropped.
        batch: the batch size that the graph was exported with; None if it takes any.
        frozen: why the graph cannot be run with another batch size; None if it can, perhaps after it is adapted.
        standard: whether the graph is a standard one already.
        complete: whether the file needs no change at all: it is a standard graph with the spec in its metadata.
    """

    spec: ModelSpec
    input: str
    output: str
    layout: Literal["NCHW", "NHWC"]
    dtype: Literal["uint8", "float16", "float32", "float64"]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    background: int | None = None
    batch: int | None = None
    frozen: str | None = None
    standard: bool = False
    complete: bool = False

    def __str__(self) -> str:
        """What is changed, in words."""
        if self.standard:
            return "it is in the standard form already"
        shape = "×".join(map(str, self.spec.preprocessing.shape[:2]))
        changes = [f"input {self.dtype} {self.layout} of {shape}"]
        if self.channel_order == "BGR":
            changes.append("channels in the order BGR")
        if self.dtype != "uint8":
            mean, std = ([round(value, 4) for value in values] for values in self.normalisation)
            changes.append(f"normalised by mean {mean} and standard deviation {std}")
        if self.batch is not None:
            changes.append(f"the batch of {self.batch} {'is made dynamic' if self.frozen is None else 'stays fixed'}")
        if self.background is not None:
            changes.append(f"background output {self.background} dropped")
        changes.append("outputs are probabilities" if self.activation == "none" else f"{self.activation} applied")
        return "; ".join(changes)

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, of values between 0 and 1, in the order RGB."""
        return self.spec.normalisation.mean, self.spec.normalisation.std


def write_adapted(path: Path, adaptation: Adaptation, out: Path) -> None:
    """Write an ONNX file in the standard form, with its external data inside and the spec in its metadata.

    Args:
        path: path of the foreign file.
        adaptation: how it is adapted.
        out: path of the new file, which is written whole or not at all.

    Raises:
        ExportError: the file cannot be adapted; such as that its batch size is fixed.
        OutputError: the file cannot be written.
    """
    check_path("path", path, "the path of an ONNX file")
    check_instance("adaptation", adaptation, Adaptation)
    check_path("out", out, "the path of the file to write")
    path, out = Path(path), Path(out)
    if adaptation.frozen is not None:
        raise ExportError(
            f"{path}: its batch size is fixed at {adaptation.batch} and cannot be made dynamic: {adaptation.frozen}; "
            "export it with a dynamic batch"
        )
    adapted = adapt(load_graph(path), adaptation, str(path))
    with staged(out) as part:
        onnx.save(adapted, part)


def adapt(model: ModelProto, adaptation: Adaptation, source: str) -> ModelProto:
    """Put a graph into the standard form.

    Args:
        model: the model, without external data; it is changed.
        adaptation: how it is adapted.
        source: name of the model, for messages.

    Raises:
        ExportError: onnx cannot convert or compose the graph.
    """
    model = make_supported(model)
    try:
        if not adaptation.standard:
            model = _compose(model, adaptation)
    except Exception as exc:
        # onnx's converter, composer and checker raise errors of many classes.
        raise ExportError(f"{source}: onnx cannot adapt the graph: {cut(one_line(exc), 300)}") from exc
    kept = [entry for entry in model.metadata_props if entry.key != SPEC_METADATA]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=SPEC_METADATA, value=adaptation.spec.to_json())
    return model


def _compose(model: ModelProto, adaptation: Adaptation) -> ModelProto:
    graph = model.graph
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name == adaptation.input and each.name not in constants]
    outputs = [each for each in graph.output if each.name == adaptation.output]
    # Before version 4 of the file format, weights are inputs too.
    _replace(graph.input, inputs)
    _replace(graph.output, outputs)
    if adaptation.batch is not None:
        free_batch(model.graph, adaptation.input, adaptation.batch)
    del graph.value_info[:]
    model = onnx.compose.add_prefix(model, _PREFIX)
    merged = onnx.compose.merge_models(
        _before(model, adaptation), model, io_map=[("prepared", _PREFIX + adaptation.input)]
    )
    merged = onnx.compose.merge_models(
        merged, _after(model, adaptation), io_map=[(_PREFIX + adaptation.output, "outputs")]
    )
    # The composer repeats the operator sets of both.
    sets = {entry.domain: entry.version for entry in merged.opset_import}
    del merged.opset_import[:]
    merged.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in sets.items())
    return merged


def _replace(field: Any, values: list[ValueInfoProto]) -> None:
    copies = [ValueInfoProto.FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def _before(model: ModelProto, adaptation: Adaptation) -> ModelProto:
    """From ``image`` to the input of the foreign graph."""
    height, width, channels = adaptation.spec.preprocessing.shape
    first = adaptation.layout == "NCHW"
    steps: list[Step] = []
    if adaptation.channel_order == "BGR":
        steps.append(("Gather", np.array([2, 1, 0], np.int64), {"axis": 3}))
    if first:
        # While a value is one byte.
        steps.append(("Transpose", None, {"perm": [0, 3, 1, 2]}))
    if adaptation.dtype != "uint8":
        mean, std = (np.array(values) for values in adaptation.normalisation)
        if adaptation.channel_order == "BGR":
            mean, std = mean[::-1], std[::-1]
        shape = (1, channels, 1, 1) if first else (1, 1, 1, channels)
        # (x / 255 - mean) / std as one multiplication and one addition.
        steps.append(("Cast", None, {"to": TensorProto.FLOAT}))
        steps.append(("Mul", (1 / (255 * std)).astype(np.float32).reshape(shape), {}))
        steps.append(("Add", (-mean / std).astype(np.float32).reshape(shape), {}))
        if adaptation.dtype != "float32":
            steps.append(("Cast", None, {"to": _TYPES[adaptation.dtype]}))
    prepared: list[str | int | None]
    prepared = ["batch", channels, height, width] if first else ["batch", height, width, channels]
    return _chain(
        model,
        steps,
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", height, width, channels]),
        helper.make_tensor_value_info("prepared", _TYPES[adaptation.dtype], prepared),
    )


def _after(model: ModelProto, adaptation: Adaptation) -> ModelProto:
    """From the output of the foreign graph to ``probabilities``."""
    kind = model.graph.output[0].type.tensor_type.elem_type
    steps: list[Step] = []
    steps.append(("Flatten", None, {"axis": 1}))
    if kind != TensorProto.FLOAT:
        steps.append(("Cast", None, {"to": TensorProto.FLOAT}))
    if adaptation.background is not None:
        outputs = len(adaptation.spec.labels) + 1
        kept = [index for index in range(outputs) if index != adaptation.background]
        steps.append(("Gather", np.array(kept, np.int64), {"axis": 1}))
    if adaptation.activation == "sigmoid":
        steps.append(("Sigmoid", None, {}))
    elif adaptation.activation == "softmax":
        steps.append(("Softmax", None, {"axis": 1}))
    elif adaptation.background is not None and adaptation.spec.task == "multiclass":
        # The rest of the probabilities is divided by its sum: softmax of the logarithm.
        steps.append(("Max", np.array(TINIEST, np.float32), {}))
        steps.append(("Log", None, {}))
        steps.append(("Softmax", None, {"axis": 1}))
    return _chain(
        model,
        steps,
        helper.make_tensor_value_info("outputs", kind, None),
        helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", len(adaptation.spec.labels)]),
    )


def _chain(
    model: ModelProto,
    steps: list[Step],
    first: ValueInfoProto,
    last: ValueInfoProto,
) -> ModelProto:
    """A model of the same versions whose nodes follow each other, each with a constant as its second input or none."""
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    name = first.name
    steps = steps or [("Identity", None, {})]
    for index, (operator, constant, attributes) in enumerate(steps):
        following = last.name if index == len(steps) - 1 else f"tamiz/{first.name}/{index}"
        names = [name]
        if constant is not None:
            names.append(f"tamiz/{first.name}/{operator}")
            constants.append(numpy_helper.from_array(constant, names[-1]))
        label = f"tamiz/{operator}-{first.name}-{index}"
        nodes.append(helper.make_node(operator, names, [following], name=label, **attributes))
        name = following
    return helper.make_model(
        helper.make_graph(nodes, first.name, [first], [last], constants),
        opset_imports=[helper.make_opsetid("", opset(model))],
        ir_version=model.ir_version,
    )
