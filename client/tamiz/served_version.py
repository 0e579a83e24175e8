"""The live version of a model on a server, as its configuration (Triton's ModelConfig) describes it to a client."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace

from tritonclient.grpc import model_config_pb2

from .errors import SpecError
from .routing import Rollout, read_rollout
from .spec import INPUT_NAME, SPEC_PARAMETER, SUMMARY_PARAMETER, ModelSpec


@dataclass(frozen=True)
class ServedVersion:
    """One live version of a model on a server.

    Attributes:
        model: name of the model.
        version: number of the version.
        spec: labels, preprocessing and thresholds of the version.
        max_batch_size: the largest number of images in one request.
        candidate: the version that is rolled out beside this one; None if there is none that this client understands.
        rollout: what the candidate is sent; None without a candidate.
        onnx_sha256: SHA-256 of the version's graph, as its publication recorded it; None if it did not.
        spec_sha256: SHA-256 of the version's spec.
    """

    model: str
    version: int
    spec: ModelSpec
    max_batch_size: int
    candidate: ServedVersion | None = None
    rollout: Rollout | None = None
    onnx_sha256: str | None = None
    spec_sha256: str | None = None


def loaded_versions(config: model_config_pb2.ModelConfig) -> list[int]:
    """The versions that a model configuration has servers load, lowest first; empty when it names none."""
    return sorted(config.version_policy.specific.versions)


def live_versions(config: model_config_pb2.ModelConfig) -> list[int]:
    """The versions that a model configuration makes live, lowest first: those that it loads, without a candidate."""
    rollout = read_rollout(config)
    return [version for version in loaded_versions(config) if rollout is None or version != rollout.version]


def read_served_version(config: model_config_pb2.ModelConfig) -> ServedVersion:
    """Read the live version and its spec from a model configuration; of several live versions, the newest.

    Raises:
        SpecError: the model was not published by Tamiz, or an operator edited its version policy; or its spec is
            malformed, too new, or does not fit the input.
    """
    live = live_versions(config)
    if not live:
        policy = config.version_policy.WhichOneof("policy_choice") or "default"
        raise SpecError(
            f"model {config.name}: its configuration names no live version (version_policy: {policy}); "
            f"{_remedy(config)}"
        )
    served, rollout = _read_version(config, live[-1]), read_rollout(config)
    if rollout is not None:
        # A client that is too old for the candidate leaves it to others.
        with contextlib.suppress(SpecError):
            return replace(served, candidate=_read_version(config, rollout.version), rollout=rollout)
    return served


def read_pinned_version(config: model_config_pb2.ModelConfig, version: int) -> ServedVersion | None:
    """Read one loaded version from a model configuration, live or not; None if servers do not load it.

    Raises:
        SpecError: its spec is missing, malformed, too new, or does not fit the input.
    """
    return _read_version(config, version) if version in loaded_versions(config) else None


def _read_version(config: model_config_pb2.ModelConfig, version: int) -> ServedVersion:
    key = f"{SPEC_PARAMETER}{version}"
    if key not in config.parameters:
        raise SpecError(
            f"model {config.name}: no spec for version {version} in its configuration (parameter {key}); "
            f"{_remedy(config)}"
        )
    text = config.parameters[key].string_value
    spec = ModelSpec.from_json(text, source=f"model {config.name} version {version}")
    shapes = {tensor.name: tuple(tensor.dims) for tensor in config.input}
    if shapes.get(INPUT_NAME) != spec.preprocessing.shape:
        raise SpecError(
            f"model {config.name} version {version}: the spec gives {INPUT_NAME} {list(spec.preprocessing.shape)}, "
            f"the server takes { ({name: list(shape) for name, shape in shapes.items()}) }"
        )
    return ServedVersion(
        config.name,
        version,
        spec,
        max(1, config.max_batch_size),
        onnx_sha256=_recorded_hash(config, version),
        spec_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )


def _recorded_hash(config: model_config_pb2.ModelConfig, version: int) -> str | None:
    """The SHA-256 of a version's graph in its summary; None if there is none, or the summary was edited."""
    key = f"{SUMMARY_PARAMETER}{version}"
    try:
        recorded = json.loads(config.parameters[key].string_value)["onnx_sha256"] if key in config.parameters else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return recorded if isinstance(recorded, str) else None


def _remedy(config: model_config_pb2.ModelConfig) -> str:
    published = any(key.startswith("tamiz.") for key in config.parameters)
    return "make a version live with `tamiz promote`" if published else "publish the model with `tamiz publish`"
