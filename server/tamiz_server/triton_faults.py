"""Serving settings that do not fit each other, or run into faults of Triton releases: named before they cost a day."""

from __future__ import annotations

import re

from .accelerators import MAX_PROFILE, read_largest_batches
from .config import ModelConfig, read_settings
from .control import Control

EMBEDDED_VERSION = "2.51.0"
"""Version of the Triton that the nvidia-pytriton wheel installs."""

_LAST_FAULTY = (2, 51)
"""The newest release in which both faults were seen. Newer ones are given the benefit of the doubt."""


def setting_warnings(config: ModelConfig, triton_version: str = EMBEDDED_VERSION) -> list[str]:
    """Warn of serving settings that fail requests, or ruin latency or throughput on a version of Triton.

    Args:
        config: the configuration of a model, with whatever an operator wrote into it.
        triton_version: version of the server that serves it, as it reports it.

    Returns:
        one line for each such setting: the setting, what it does and what to set instead.
    """
    warnings = [
        f"{MAX_PROFILE}: the engine of TensorRT is for batches of at most {largest}, and max_batch_size is "
        f"{config.max_batch_size}, so larger batches fail; give both the same number"
        for largest in read_largest_batches(config)
        if largest < config.max_batch_size
    ]
    numbers = re.match(r"(\d+)\.(\d+)", triton_version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) > _LAST_FAULTY:
        return warnings
    settings = read_settings(config)
    if settings["instances"] == 1 and _has_limited_queue(config):
        warnings.append(
            f"instances: 1 with a limited queue: Triton {triton_version} sometimes misses that the only instance "
            "became free, and requests wait 500 ms longer; set 2 or more instances"
        )
    if delay := settings["max_queue_delay_us"]:
        warnings.append(
            f"max_queue_delay_us: {delay:g}: Triton {triton_version} may stop using instances until the model is "
            "loaded again (triton-inference-server/server#8870); set 0"
        )
    return warnings


def _has_limited_queue(config: ModelConfig) -> bool:
    batching = config.dynamic_batching
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    return any(policy.max_queue_size or policy.default_timeout_microseconds for policy in policies)


def known_version(control: Control | None) -> str:
    """Version of the Triton that serves a repository, as far as it is known.

    Args:
        control: the control of a running server, which is asked; None assumes the embedded Triton.

    Raises:
        ServerError: the server cannot be reached.
    """
    return control.server_version() if control is not None else EMBEDDED_VERSION
