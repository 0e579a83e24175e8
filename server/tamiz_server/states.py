"""States of the versions of a model, as its configuration has them, and the rollout of a candidate in it."""

from __future__ import annotations

import enum
from collections.abc import Collection

from tamiz.routing import CANARY, SHADOW, STICKY, Rollout, read_rollout

from .config import ModelConfig, live_on_disk, read_promotions, was_published


class State(enum.StrEnum):
    """What a version is to its model.

    Attributes:
        LIVE: it answers clients.
        CANARY: the candidate that answers a share of the calls.
        SHADOW: the candidate that is sent a share of the calls; its answers are compared and discarded.
        PREVIOUS: the version that a rollback makes live.
        ARCHIVED: any other version on disk.
    """

    LIVE = "live"
    CANARY = "canary"
    SHADOW = "shadow"
    PREVIOUS = "previous"
    ARCHIVED = "archived"


def rollout_on_disk(config: ModelConfig, numbers: Collection[int]) -> Rollout | None:
    """The rollout that is in force by a configuration, if its candidate and a version beside it are on disk."""
    rollout = read_rollout(config)
    loaded = live_on_disk(config, numbers)
    return rollout if rollout is not None and rollout.version in loaded and len(loaded) > 1 else None


def live_without_candidate(config: ModelConfig, numbers: Collection[int]) -> list[int]:
    """The versions that servers load by a configuration, lowest first, without the candidate of a rollout."""
    rollout = rollout_on_disk(config, numbers)
    return [number for number in live_on_disk(config, numbers) if rollout is None or number != rollout.version]


def version_states(config: ModelConfig, numbers: Collection[int]) -> dict[int, State]:
    """The state of each version.

    Args:
        config: the configuration of the model.
        numbers: the versions that are on disk.
    """
    states = dict.fromkeys(numbers, State.ARCHIVED)
    promotions = read_promotions(config) if was_published(config) else []
    if len(promotions) > 1 and promotions[-2] in states:
        states[promotions[-2]] = State.PREVIOUS
    states.update(dict.fromkeys(live_without_candidate(config, numbers), State.LIVE))
    rollout = rollout_on_disk(config, numbers)
    if rollout is not None:
        states[rollout.version] = State.CANARY if rollout.canary else State.SHADOW
    return states


def write_rollout(config: ModelConfig, rollout: Rollout, live: int) -> None:
    """Have servers load the candidate of a rollout beside the live version; the configuration is changed in place."""
    clear_rollout(config)
    config.version_policy.Clear()
    config.version_policy.specific.versions.extend(sorted({live, rollout.version}))
    for name, share in ((CANARY, rollout.canary), (SHADOW, rollout.shadow)):
        if share:
            config.parameters[name].string_value = f"{rollout.version} {share:g}"
    if rollout.sticky:
        config.parameters[STICKY].string_value = "image"


def clear_rollout(config: ModelConfig) -> None:
    """Remove the parameters of a rollout; the version policy stays."""
    for name in (CANARY, SHADOW, STICKY):
        if name in config.parameters:
            del config.parameters[name]
