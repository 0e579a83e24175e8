"""Execution accelerators in config.pbtxt: what computes a model instead of ONNX Runtime's own kernels.

The manifest of each version has its accelerators, and config.pbtxt has those of the live version: the message
``optimization.execution_accelerators``. TensorRT builds an engine for a range of batch sizes, whose upper end is always
``max_batch_size``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from tamiz.errors import RepositoryError, cut
from tamiz.spec import INPUT_NAME

MAX_PROFILE = "trt_profile_max_shapes"
"""Parameter of TensorRT with the largest shapes for which it builds an engine, such as ``image:16x224x224x3``."""

OPTIMUM_PROFILE = "trt_profile_opt_shapes"
"""Parameter of TensorRT with the shapes for which it makes the engine fast."""

_BATCH = re.compile(rf"(?<![^,]){INPUT_NAME}:(\d+)(?=x)")


def change_accelerators(
    config: model_config_pb2.ModelConfig, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Replace the execution accelerators of one version by those of another, unless an operator changed them.

    Instances of a version that a GPU accelerates run on GPUs alone (``KIND_GPU``), so that a machine without one
    refuses the model instead of computing it otherwise.

    Args:
        config: the configuration, changed in place.
        before: the accelerators of the version that is live: ``optimization.execution_accelerators`` as JSON; empty for
            none.
        after: the accelerators of the version that goes live, in the same form.

    Raises:
        RepositoryError: they are no accelerators of Triton.
    """
    ours, wanted = (fit_accelerators(each, config.max_batch_size) for each in (before, after))
    current = model_config_pb2.ModelOptimizationPolicy.ExecutionAccelerators()
    current.CopyFrom(config.optimization.execution_accelerators)
    # The profiles are still ours where an operator changed max_batch_size alone.
    _fit(current, config.max_batch_size)
    if wanted == ours or current != ours:
        return
    config.optimization.ClearField("execution_accelerators")
    if after:
        config.optimization.execution_accelerators.CopyFrom(wanted)
    elif not config.optimization.ListFields():
        config.ClearField("optimization")
    _set_kind(config, wanted=bool(wanted.gpu_execution_accelerator), had=bool(ours.gpu_execution_accelerator))


def fit_accelerators(accelerators: Mapping[str, Any], max_batch_size: int) -> Any:
    """The accelerators of a version as config.pbtxt has them: the engines of TensorRT for batches of 1 to the largest.

    Args:
        accelerators: ``optimization.execution_accelerators`` as JSON; empty for none.
        max_batch_size: the largest batch size of the configuration.

    Returns:
        the message of Triton's protobuf.

    Raises:
        RepositoryError: they are no accelerators of Triton.
    """
    message = model_config_pb2.ModelOptimizationPolicy.ExecutionAccelerators()
    try:
        json_format.ParseDict(dict(accelerators), message)
    except (json_format.ParseError, TypeError, ValueError) as exc:
        raise RepositoryError(f"accelerators {cut(str(accelerators), 200)}: not those of Triton: {exc}") from exc
    _fit(message, max_batch_size)
    return message


def fit_profiles(config: model_config_pb2.ModelConfig) -> None:
    """Let the engines of TensorRT end at the largest batch size, after that was changed; without them, do nothing."""
    if config.HasField("optimization"):
        _fit(config.optimization.execution_accelerators, config.max_batch_size)


def read_largest_batches(config: model_config_pb2.ModelConfig) -> list[int]:
    """The largest batch size of each engine of TensorRT for which the configuration names one."""
    shapes = (each.parameters.get(MAX_PROFILE, "") for each in _on_gpu(config.optimization.execution_accelerators))
    return [int(found[1]) for shape in shapes if (found := _BATCH.search(shape))]


def name_accelerators(accelerators: object) -> list[str]:
    """The names of the accelerators of a version, such as ``tensorrt``.

    Args:
        accelerators: ``optimization.execution_accelerators`` as JSON, as a manifest has it; names nothing if it is
            anything else.
    """
    groups = accelerators.values() if isinstance(accelerators, Mapping) else ()
    found = (each for group in groups if isinstance(group, list) for each in group)
    return [str(each.get("name")) for each in found if isinstance(each, Mapping)]


def _on_gpu(accelerators: Any) -> Any:
    return accelerators.gpu_execution_accelerator


def _fit(accelerators: Any, max_batch_size: int) -> None:
    largest = max(1, max_batch_size)
    for accelerator in _on_gpu(accelerators):
        parameters = accelerator.parameters
        before = _BATCH.search(parameters.get(MAX_PROFILE, ""))
        if before is None:
            continue
        parameters[MAX_PROFILE] = _BATCH.sub(f"{INPUT_NAME}:{largest}", parameters[MAX_PROFILE])
        optimum = _BATCH.search(parameters.get(OPTIMUM_PROFILE, ""))
        # A smaller optimum is the choice of an operator.
        if optimum is not None and (optimum[1] == before[1] or int(optimum[1]) > largest):
            parameters[OPTIMUM_PROFILE] = _BATCH.sub(f"{INPUT_NAME}:{largest}", parameters[OPTIMUM_PROFILE])


def _set_kind(config: model_config_pb2.ModelConfig, *, wanted: bool, had: bool) -> None:
    """Restrict the instances to GPUs, or lift that again; kinds that an operator wrote stay."""
    if wanted == had:
        return
    group = model_config_pb2.ModelInstanceGroup
    before, after = (group.KIND_AUTO, group.KIND_GPU) if wanted else (group.KIND_GPU, group.KIND_AUTO)
    for each in config.instance_group:
        if each.kind == before:
            each.kind = after
