"""A model that takes normalised float32 images, as most published Triton examples do.

The graph that Tamiz exports takes uint8 and normalises the image itself. `copy_with_float32_model` serves that graph
without these first nodes beside the original, for a client that normalises: `tritonclient_script`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from tamiz.errors import UsageError
from tamiz.spec import INPUT_NAME
from tamiz_server.config_text import format_config
from tamiz_server.repository import Repository

_PREPARING_NODES = {"Transpose", "Cast", "Mul", "Add"}


def copy_with_float32_model(repository: Repository, model: str, folder: Path) -> str:
    """Copy a model to a new repository, and add a variant that takes float32 and is served with the same settings.

    Args:
        repository: the repository that holds the model.
        model: name of the model.
        folder: an empty folder, which becomes the new repository.

    Returns:
        name of the variant: its input is float32 ``[batch, channels, height, width]``, normalised.

    Raises:
        RepositoryError: the model is missing or damaged.
        UsageError: the model's resize mode is not ``squash``, the only one of the script.
    """
    live = repository.live_version(model)
    preprocessing = live.spec.preprocessing
    if preprocessing.resize != "squash":
        raise UsageError(
            f"model {model}: the tritonclient script cannot resize by {preprocessing.resize!r}; "
            "choose a model whose preprocessing has resize: squash"
        )
    shutil.copytree(repository.path / model, folder / model)
    config = repository.config(model)
    config.name = variant = f"{model}_float32"
    shape = [preprocessing.channels, preprocessing.height, preprocessing.width]
    for tensor in (config.input[0], *(warmup.inputs[INPUT_NAME] for warmup in config.model_warmup)):
        tensor.dims[:] = shape
        tensor.data_type = model_config_pb2.TYPE_FP32
    version_folder = folder / variant / str(live.version)
    version_folder.mkdir(parents=True)
    (folder / variant / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
    graph = onnx.load(repository.path / model / str(live.version) / "model.onnx")
    onnx.save(take_float32(graph), version_folder / "model.onnx")
    return variant


def take_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the nodes that turn uint8 ``[batch, height, width, channels]`` into normalised float32.

    Args:
        model: the exported model, which is changed in place.

    Returns:
        the same model; its input is now float32 ``[batch, channels, height, width]``.
    """
    graph = model.graph
    kept, prepared = [], INPUT_NAME
    for node in graph.node:
        if node.op_type in _PREPARING_NODES and node.input[0] == prepared:
            prepared = node.output[0]
        else:
            kept.append(node)
    batch, height, width, channels = (
        dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim
    )
    for node in kept:
        # Nodes that read the batch size from the original input keep working: INPUT_NAME stays the input's name.
        node.input[:] = [INPUT_NAME if name == prepared else name for name in node.input]
    del graph.node[:], graph.input[:]
    graph.node.extend(kept)
    graph.input.append(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [batch, channels, height, width]))
    onnx.checker.check_model(model)
    return model
