"""The live version of a model on a server, as its configuration (Triton's ModelConfig) describes it to a client."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2

from .errors import SpecError
from .routing import Rollout, read_rollout
from .spec import INPUT_NAME, SPEC_PARAMETER, ModelSpec


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
    """

    model: str
    version: int
    spec: ModelSpec
    max_batch_size: int
    candidate: ServedVersion | None = None
    rollout: Rollout | None = None


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
    version, rollout = live[-1], read_rollout(config)
    spec, max_batch_size = _read_spec(config, version), max(1, config.max_batch_size)
    if rollout is not None:
        # A client that is too old for the candidate leaves it to others.
        with contextlib.suppress(SpecError):
            candidate = ServedVersion(config.name, rollout.version, _read_spec(config, rollout.version), max_batch_size)
            return ServedVersion(config.name, version, spec, max_batch_size, candidate, rollout)
    return ServedVersion(config.name, version, spec, max_batch_size)


def read_pinned_version(config: model_config_pb2.ModelConfig, version: int) -> ServedVersion | None:
    """Read one loaded version from a model configuration, live or not; None if servers do not load it.

    Raises:
        SpecError: its spec is missing, malformed, too new, or does not fit the input.
    """
    if version not in loaded_versions(config):
        return None
    return ServedVersion(config.name, version, _read_spec(config, version), max(1, config.max_batch_size))


def _read_spec(config: model_config_pb2.ModelConfig, version: int) -> ModelSpec:
    key = f"{SPEC_PARAMETER}{version}"
    if key not in config.parameters:
        raise SpecError(
            f"model {config.name}: no spec for version {version} in its configuration (parameter {key}); "
            f"{_remedy(config)}"
        )
    spec = ModelSpec.from_json(config.parameters[key].string_value, source=f"model {config.name} version {version}")
    shapes = {tensor.name: tuple(tensor.dims) for tensor in config.input}
    if shapes.get(INPUT_NAME) != spec.preprocessing.shape:
        raise SpecError(
            f"model {config.name} version {version}: the spec gives {INPUT_NAME} {list(spec.preprocessing.shape)}, "
            f"the server takes { ({name: list(shape) for name, shape in shapes.items()}) }"
        )
    return spec


def _remedy(config: model_config_pb2.ModelConfig) -> str:
    published = any(key.startswith("tamiz.") for key in config.parameters)
    return "make a version live with `tamiz promote`" if published else "publish the model with `tamiz publish`"
