"""The session that serves a version, for measurements outside of Triton.

`tamiz_server.backends.onnxruntime.onnxruntime_session` creates it, which belongs to the backend, a folder of its own
that Triton loads. Here it is given to the rest of Tamiz, with an error of Tamiz.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from tamiz.errors import ExportError, one_line

from .config import ServingSettings, new_config
from .gpu import find_gpu

if TYPE_CHECKING:
    import onnxruntime as ort


def session_config(settings: ServingSettings, accelerators: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration with which a graph will be served, as far as its session depends on it.

    Args:
        settings: the serving settings.
        accelerators: the message ``optimization.execution_accelerators`` of config.pbtxt as JSON; empty for none.

    Returns:
        ``config.pbtxt`` as JSON.
    """
    config: dict[str, Any] = MessageToDict(new_config("model", settings), preserving_proto_field_name=True)
    if accelerators:
        config["optimization"] = {"execution_accelerators": dict(accelerators)}
    return config


def open_serving_session(graph: Path, config: Mapping[str, Any], *, gpu: int | None = None) -> ort.InferenceSession:
    """Load a graph as the backend loads it.

    Args:
        graph: path of the ONNX file.
        config: the model's configuration, ``config.pbtxt`` as JSON; see `session_config`.
        gpu: index of the GPU that computes the graph; None uses the CPU.

    Raises:
        ExportError: the graph cannot be loaded, or a setting cannot be honoured on this machine.
    """
    try:
        return _backend().open_session(graph, config, gpu=gpu)
    except Exception as exc:
        # ONNX Runtime has an error class for each way in which a graph can be wrong.
        raise ExportError(f"{graph}: cannot be served on this machine: {one_line(exc)[:500]}") from exc


def computes_on_gpu(config: Mapping[str, Any]) -> bool:
    """Whether a GPU of this machine computes a graph that is served with a configuration.

    Args:
        config: the model's configuration, ``config.pbtxt`` as JSON.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    return bool(accelerators.get("gpu_execution_accelerator")) or (
        "CUDAExecutionProvider" in _backend().ort.get_available_providers()
        and not accelerators.get("cpu_execution_accelerator")
    )


def find_missing_gpu(config: Mapping[str, Any]) -> str | None:
    """Why this machine cannot run the session of a model that a GPU accelerates.

    Args:
        config: the model's configuration, ``config.pbtxt`` as JSON.

    Returns:
        the accelerator and the reason; None if it can, or if the model has no accelerator for a GPU.
    """
    accelerators = config.get("optimization", {}).get("execution_accelerators", {}).get("gpu_execution_accelerator", [])
    if not accelerators:
        return None
    missing: str | None = _backend().missing_provider(config)
    if missing is None and find_gpu() is None:
        missing = f"{accelerators[0].get('name')}: this machine has no NVIDIA GPU"
    return missing


def _backend() -> Any:
    # The backend is a folder of its own, whose modules import each other by their short names.
    return importlib.import_module("tamiz_server.backends.onnxruntime.onnxruntime_session")
