"""An ONNX classifier of any tool, run on the CPU as if Tamiz had exported it.

The graph may take uint8 or float images, channels last or first, and return probabilities or logits; a spec says which
labels it has and how images are prepared. The spec is in the metadata of a file that Tamiz exported; for another file
it is beside it: ``model.spec.json`` or ``spec.json`` for ``model.onnx``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from tamiz.errors import ExportError, one_line, os_reason
from tamiz.preprocessing import Pixels
from tamiz.spec import OUTPUT_NAME, SPEC_METADATA, ModelSpec
from tamiz_train.graph import find_problem

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class AdaptedGraph:
    """An ONNX classifier with its spec.

    Args:
        path: path of the ONNX file.

    Raises:
        ExportError: the file is not an ONNX file, has no spec, or does not match it.
        SpecError: the spec cannot be read.

    Attributes:
        spec: labels, preprocessing and thresholds.
        activation: what is applied to the outputs of the graph: ``softmax`` or ``sigmoid`` if they are logits, ``none``
            if they are probabilities.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = find_spec(path)
        try:
            self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as exc:
            # ONNX Runtime has an error class for each way in which a graph can be wrong.
            raise ExportError(f"{path}: cannot be loaded: {one_line(exc)}") from exc
        self._input = self._find_input()
        self.activation: Literal["none", "softmax", "sigmoid"] = "none"
        noise = np.random.default_rng(0).integers(0, 256, (8, *self.spec.preprocessing.shape), np.uint8)
        if find_problem(self.probabilities(noise), self.spec) is not None:
            self.activation = "softmax" if self.spec.task == "multiclass" else "sigmoid"

    def probabilities(self, images: Pixels) -> npt.NDArray[np.float32]:
        """Run the graph.

        Args:
            images: uint8 ``[batch, height, width, channels]``.

        Returns:
            float32 ``[batch, labels]``.

        Raises:
            ExportError: the graph fails, or its output does not match the spec.
        """
        size = self._input.shape[0] if isinstance(self._input.shape[0], int) else len(images)
        batches = [self._run(images[start : start + size], size) for start in range(0, len(images), size)]
        outputs = np.concatenate(batches)
        if self.activation == "softmax":
            outputs = np.exp(outputs - outputs.max(1, keepdims=True))
            outputs /= outputs.sum(1, keepdims=True)
        elif self.activation == "sigmoid":
            outputs = 0.5 * (1 + np.tanh(outputs / 2))
        return outputs.astype(np.float32)

    def _find_input(self) -> ort.NodeArg:
        inputs = self._session.get_inputs()
        channels = self.spec.preprocessing.channels
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or channels not in inputs[0].shape[1::2]:
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise ExportError(
                f"{self.path}: does not match its spec: it takes {found}; an image must be [batch, height, width, "
                f"{channels}] or [batch, {channels}, height, width]"
            )
        if inputs[0].type not in {"tensor(uint8)", *_FLOATS}:
            raise ExportError(f"{self.path}: cannot be run: its input is {inputs[0].type}; use uint8 or float")
        return inputs[0]

    def _run(self, images: Pixels, size: int) -> npt.NDArray[np.float64]:
        # A graph of a fixed batch size gets a full batch.
        padding = np.zeros((size - len(images), *images.shape[1:]), np.uint8)
        filled: npt.NDArray[Any] = np.concatenate([images, padding])
        if (kind := _FLOATS.get(self._input.type)) is not None:
            mean, std = self.spec.normalisation.mean, self.spec.normalisation.std
            filled = ((filled / np.float32(255) - mean) / std).astype(kind)
        if self._input.shape[3] != images.shape[3]:
            filled = filled.transpose(0, 3, 1, 2)
        try:
            results = self._session.run(None, {self._input.name: np.ascontiguousarray(filled)})
        except Exception as exc:
            raise ExportError(f"{self.path}: does not match its spec: {one_line(exc)}") from exc
        outputs = dict(zip((each.name for each in self._session.get_outputs()), results, strict=True))
        expected = (size, len(self.spec.labels))
        fitting = [array for array in outputs.values() if getattr(array, "shape", None) == expected]
        if OUTPUT_NAME in outputs and getattr(outputs[OUTPUT_NAME], "shape", None) == expected:
            fitting = [outputs[OUTPUT_NAME]]
        if len(fitting) != 1:
            shapes = ", ".join(f"{name} {list(getattr(array, 'shape', ()))}" for name, array in outputs.items())
            raise ExportError(
                f"{self.path}: does not match its spec: {len(self.spec.labels)} labels and {size} images need one "
                f"output {list(expected)}, and the graph returns {shapes}"
            )
        probabilities: npt.NDArray[np.float64] = fitting[0][: len(images)].astype(np.float64)
        return probabilities


def find_spec(path: Path) -> ModelSpec:
    """Find the spec of an ONNX file: in its metadata, or beside it.

    Raises:
        ExportError: the file is not an ONNX file, or has no spec.
        SpecError: the spec cannot be read.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as exc:
        # onnx raises errors of protobuf, of the file system and its own.
        raise ExportError(f"{path}: not an ONNX file: {one_line(exc)[:300]}") from exc
    for entry in model.metadata_props:
        if entry.key == SPEC_METADATA:
            return ModelSpec.from_json(entry.value, source=str(path))
    for beside in (path.with_suffix(".spec.json"), path.with_name("spec.json")):
        if beside.is_file():
            try:
                return ModelSpec.from_json(beside.read_bytes(), source=str(beside))
            except OSError as exc:
                raise ExportError(f"{beside}: cannot be read: {os_reason(exc)}") from exc
    raise ExportError(
        f"{path}: nothing says which labels it has and how images are prepared; write "
        f'{path.with_suffix(".spec.json").name} beside it, such as {{"labels": ["cat", "dog"], "preprocessing": '
        '{"height": 224, "width": 224}, "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}'
    )
