"""The ONNX Runtime session that serves a version, created from the configuration of its model.

The backend and the measurements before a publication use this one function, so that what is measured is what serves.
The module imports nothing of Tamiz or Triton, because the backend runs in Triton's own Python process.

It honours these settings of the native backend (source of their meaning: triton-inference-server/onnxruntime_backend,
README and src/onnxruntime.cc):

- ``optimization { graph { level } }``: -1 basic, 1 extended, 2 none, otherwise all optimizations;
- the parameters ``intra_op_thread_count``, ``inter_op_thread_count``, ``execution_mode``, ``enable_mem_arena`` and
  ``enable_mem_pattern``;
- ``optimization { execution_accelerators }``: ``tensorrt`` and ``cuda`` for a GPU, ``openvino`` for a CPU. An instance
  on a CPU, where the native backend ignores those for a GPU, refuses them: it would compute something else.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_GPU_ACCELERATORS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider"}
GPU_PROVIDERS = frozenset(_GPU_ACCELERATORS.values())
"""The providers of ONNX Runtime that compute on a GPU."""

_TENSORRT_RENAMED = {"max_workspace_size_bytes": "trt_max_workspace_size"}
_TENSORRT_PRECISIONS = {"FP32": [], "FP16": ["trt_fp16_enable"], "INT8": ["trt_int8_enable"]}
_OPENVINO = "OpenVINOExecutionProvider"


class SettingError(ValueError):
    """A setting in the configuration that cannot be honoured; the message names it."""


def open_session(
    path: str | os.PathLike[str], config: Mapping[str, Any], *, gpu: int | None = None
) -> ort.InferenceSession:
    """Load a graph as the configuration of its model says.

    Args:
        path: path of the ONNX file.
        config: the model's configuration, ``config.pbtxt`` as JSON.
        gpu: index of the GPU that computes the graph; None uses the CPU.

    Raises:
        SettingError: a setting cannot be honoured on this machine.
    """
    options = _session_options(config)
    for_gpu = [str(each.get("name", "")) for each in _accelerators(config, "gpu")]
    if gpu is None and for_gpu:
        raise SettingError(
            f"gpu_execution_accelerator {for_gpu[0]}: this instance runs on a CPU; serve the model on a machine with a "
            "GPU, or remove the accelerator from config.pbtxt"
        )
    providers = [] if gpu is None else _gpu_providers(config, gpu)
    if gpu is None and _add_openvino(options, config):
        session = ort.InferenceSession(path, options)
        if _OPENVINO not in session.get_providers():
            raise SettingError("cpu_execution_accelerator openvino: ONNX Runtime did not use it")
        return session
    session = ort.InferenceSession(path, options, providers=[*providers, "CPUExecutionProvider"])
    # Without a GPU or its libraries, ONNX Runtime warns and computes on the CPU.
    if unused := [name for name in for_gpu if _GPU_ACCELERATORS[name] not in session.get_providers()]:
        raise SettingError(
            f"gpu_execution_accelerator {unused[0]}: ONNX Runtime did not use it: a GPU, its driver or libraries of "
            "CUDA or TensorRT are missing"
        )
    return session


def missing_provider(config: Mapping[str, Any]) -> str | None:
    """What this ONNX Runtime lacks to compute a model with the configured accelerators for a GPU; None if nothing."""
    available = ort.get_available_providers()
    for accelerator in _accelerators(config, "gpu"):
        provider = _GPU_ACCELERATORS.get(accelerator.get("name", ""))
        if provider is not None and provider not in available:
            return f"{accelerator['name']}: this ONNX Runtime has no {provider}"
    return None


def read_parameter(config: Mapping[str, Any], name: str, default: int) -> int:
    """Read a whole number from the parameters of a configuration.

    Raises:
        SettingError: it is no whole number.
    """
    text = config.get("parameters", {}).get(name, {}).get("string_value", "")
    try:
        return int(text) if text else default
    except ValueError:
        raise SettingError(f"parameter {name}: expected a whole number, got '{text}'") from None


def _session_options(config: Mapping[str, Any]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_LEVELS.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    options.intra_op_num_threads = read_parameter(config, "intra_op_thread_count", 0)
    options.inter_op_num_threads = read_parameter(config, "inter_op_thread_count", 0)
    options.enable_cpu_mem_arena = bool(read_parameter(config, "enable_mem_arena", 1))
    options.enable_mem_pattern = bool(read_parameter(config, "enable_mem_pattern", 1))
    # Threads that spin while they wait take processor time from the clients on the same machine, and from each other.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    mode = read_parameter(config, "execution_mode", 0)
    if mode not in (0, 1):
        raise SettingError(f"parameter execution_mode: expected 0 or 1, got {mode}")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if mode else ort.ExecutionMode.ORT_SEQUENTIAL
    return options


def _accelerators(config: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    accelerators: list[dict[str, Any]] = (
        config.get("optimization", {}).get("execution_accelerators", {}).get(f"{kind}_execution_accelerator", [])
    )
    return accelerators


def _gpu_providers(config: Mapping[str, Any], gpu: int) -> list[tuple[str, dict[str, str]]]:
    """The providers of the configured accelerators, and CUDA, which computes what they leave."""
    available = ort.get_available_providers()
    options = {"device_id": str(gpu)}
    providers = {}
    for accelerator in _accelerators(config, "gpu"):
        name, parameters = accelerator.get("name", ""), accelerator.get("parameters", {})
        if name not in _GPU_ACCELERATORS:
            raise SettingError(f"gpu_execution_accelerator {name}: not supported; use {' or '.join(_GPU_ACCELERATORS)}")
        provider = _GPU_ACCELERATORS[name]
        if provider not in available:
            raise SettingError(
                f"gpu_execution_accelerator {name}: this ONNX Runtime has no {provider}; it has {', '.join(available)}"
            )
        providers[provider] = options | (_tensorrt_options(parameters) if name == "tensorrt" else parameters)
    if "CUDAExecutionProvider" in available:
        providers.setdefault("CUDAExecutionProvider", options)
    return list(providers.items())


def _tensorrt_options(parameters: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parameters.items():
        if name == "precision_mode":
            if value not in _TENSORRT_PRECISIONS:
                raise SettingError(
                    f"precision_mode of tensorrt: expected {', '.join(_TENSORRT_PRECISIONS)}, got {value}"
                )
            options |= dict.fromkeys(_TENSORRT_PRECISIONS[value], "1")
        else:
            options[_TENSORRT_RENAMED.get(name, name)] = value
    return options


def _add_openvino(options: ort.SessionOptions, config: Mapping[str, Any]) -> bool:
    """Have a session use OpenVINO if the configuration says so; return whether it does."""
    accelerators = _accelerators(config, "cpu")
    for accelerator in accelerators:
        if accelerator.get("name") != "openvino":
            raise SettingError(f"cpu_execution_accelerator {accelerator.get('name')}: not supported; use openvino")
    if not accelerators:
        return False
    try:
        plugin = importlib.import_module("onnxruntime_ep_openvino")
    except ImportError:
        raise SettingError(
            "cpu_execution_accelerator openvino: it is not installed; pip install 'tamiz[openvino]'"
        ) from None
    if _OPENVINO not in {device.ep_name for device in ort.get_ep_devices()}:
        ort.register_execution_provider_library(_OPENVINO, plugin.get_library_path())
    devices = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == _OPENVINO and device.ep_metadata.get("ov_device") == "CPU"
    ]
    if not devices:
        raise SettingError("cpu_execution_accelerator openvino: OpenVINO offers no CPU of this machine")
    options.add_provider_for_devices(devices[:1], {})
    return True
