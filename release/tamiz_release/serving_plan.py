"""The configuration with which a version is served: a candidate before it is published, or one that is not live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from tamiz_server.accelerators import change_accelerators
from tamiz_server.config import (
    ModelConfig,
    ServingSettings,
    new_config,
    read_settings,
    write_settings,
)
from tamiz_server.repository import Repository
from tamiz_server.version import read_accelerators

if TYPE_CHECKING:
    # Importing it needs ONNX, which the computation of recorded results does without.
    from .candidate import Candidate


def plan_config(
    candidate: Candidate, repository: Repository, model: str, *, apply_serving: bool = False
) -> dict[str, Any]:
    """The configuration with which a candidate would be served if it were published, ``config.pbtxt`` as JSON.

    Args:
        candidate: the candidate.
        repository: the model repository; it may not exist yet.
        model: name of the model.
        apply_serving: whether the serving settings of the candidate replace those of the published model.

    Raises:
        RepositoryError: the configuration of the model cannot be read.
    """
    known = repository.path.is_dir() and model in repository.models()
    config = repository.config(model) if known else new_config(model, candidate.settings or ServingSettings())
    if apply_serving and candidate.settings is not None:
        write_settings(config, candidate.settings)
    live = repository.live_numbers(model) if known else []
    return _with_accelerators(config, repository.path / model, live, candidate.accelerators)


def version_config(repository: Repository, model: str, version: int) -> dict[str, Any]:
    """The configuration with which a version is served while it is live, whichever is live now, as JSON.

    Args:
        repository: the model repository.
        model: name of the model.
        version: number of the version, which is on disk.

    Raises:
        RepositoryError: there is no such model, or its configuration cannot be read.
    """
    folder = repository.path / model
    live = repository.live_numbers(model)
    return _with_accelerators(repository.config(model), folder, live, read_accelerators(folder, version))


def _with_accelerators(
    config: ModelConfig, folder: Path, live: Sequence[int], accelerators: Mapping[str, Any]
) -> dict[str, Any]:
    before = read_accelerators(folder, live[-1]) if live else {}
    change_accelerators(config, before, accelerators)
    document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    return document


def changed_settings(config: ModelConfig, settings: ServingSettings) -> str:
    """The settings in which a configuration differs from those of a recipe, as text; empty if there are none."""
    current = read_settings(config)
    return ", ".join(
        f"{name} {current[name]:g} (recipe: {value})"
        for name, value in settings.model_dump().items()
        if current[name] != value
    )
