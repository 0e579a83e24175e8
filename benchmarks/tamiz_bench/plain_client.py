"""The client that a person writes from tritonclient's documentation, to hold Tamiz's own against.

It decodes with Pillow, sends normalised float32, and one image a request. So it needs a model that takes float32:
the served graph without its first steps, which stand in this client in their place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as grpcclient
from onnx import TensorProto, helper
from PIL import Image
from tritonclient.grpc import model_config_pb2

from tamiz.errors import UsageError
from tamiz.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from tamiz_server.config import format_config
from tamiz_server.repository import Repository

SUFFIX = "_float32"
_PREPARING = {"Transpose", "Cast", "Mul", "Add"}


class PlainClient:
    """Classifies one image file a request; threads may share it, as tritonclient says of its own."""

    def __init__(self, url: str, model: str, spec: ModelSpec) -> None:
        self.client = grpcclient.InferenceServerClient(url.removeprefix("grpc://"))
        self.model = model + SUFFIX
        self.labels = spec.labels
        self.size = spec.preprocessing.width, spec.preprocessing.height
        self.mode = spec.preprocessing.colour
        self.mean = np.array(spec.normalisation.mean, np.float32)
        self.std = np.array(spec.normalisation.std, np.float32)

    def classify(self, path: Path) -> str:
        """The label of an image."""
        image = Image.open(path).convert(self.mode).resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32).reshape(self.size[1], self.size[0], -1) / 255
        batch = ((pixels - self.mean) / self.std).transpose(2, 0, 1)[np.newaxis]
        infer_input = grpcclient.InferInput(INPUT_NAME, list(batch.shape), "FP32")
        infer_input.set_data_from_numpy(batch)
        result = self.client.infer(
            self.model, inputs=[infer_input], outputs=[grpcclient.InferRequestedOutput(OUTPUT_NAME)]
        )
        return self.labels[int(result.as_numpy(OUTPUT_NAME)[0].argmax())]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


def copy_with_float_model(repository: Repository, model: str, folder: Path) -> Path:
    """A repository of the model and, beside it, of the same model for `PlainClient`; both served alike.

    Args:
        repository: that holds the model.
        model: its name.
        folder: an empty one.

    Raises:
        UsageError: the model prepares its images as `PlainClient` cannot.
    """
    live = repository.live(model)
    version, spec = live.version, live.spec.preprocessing
    if spec.resize != "squash":
        raise UsageError(f"model {model}: resize {spec.resize}; the plain client only squashes")
    shutil.copytree(repository.path / model, folder / model)
    config = repository.config(model)
    config.name = model + SUFFIX
    shape = [spec.channels, spec.height, spec.width]
    for dims in (config.input[0].dims, *(warmup.inputs[INPUT_NAME].dims for warmup in config.model_warmup)):
        dims[:] = shape
    config.input[0].data_type = model_config_pb2.TYPE_FP32
    for warmup in config.model_warmup:
        warmup.inputs[INPUT_NAME].data_type = model_config_pb2.TYPE_FP32
    home = folder / config.name / str(version)
    home.mkdir(parents=True)
    (home.parent / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
    graph = onnx.load(repository.path / model / str(version) / "model.onnx")
    onnx.save(take_float(graph), home / "model.onnx")
    return folder


def take_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cut the steps from uint8 to float32 off a graph, which then takes ``[batch, channels, height, width]``.

    Changed in place and returned.
    """
    graph = model.graph
    kept, ready = [], INPUT_NAME
    for node in graph.node:
        if node.op_type in _PREPARING and node.input[0] == ready:
            ready = node.output[0]
        else:
            kept.append(node)
    batch, height, width, channels = (
        dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim
    )
    for node in kept:
        # The size of the batch, too, is read off the input.
        node.input[:] = [INPUT_NAME if name == ready else name for name in node.input]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [batch, channels, height, width]))
    onnx.checker.check_model(model)
    return model
