"""The configuration with which a candidate will be served, before it is published."""

from __future__ import annotations

from typing import Any

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
    live = repository.live_numbers(model)[-1:] if known else []
    before = read_accelerators(repository.path / model, live[0]) if live else {}
    change_accelerators(config, before, candidate.accelerators)
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
