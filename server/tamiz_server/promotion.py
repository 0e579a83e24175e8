"""Promotion and rollback: which version of a model is live, and how it is served, on disk and in a running server.

Triton loads a version before it takes the one before out of service, and lets that one finish its requests, so that a
change drops no request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from itertools import groupby

from tamiz.arguments import check_flag, check_instance, check_whole
from tamiz.errors import RepositoryError, TamizError
from tamiz.routing import Rollout

from .accelerators import change_accelerators
from .change import change_model, ready_versions
from .config import (
    ModelConfig,
    ServingSettings,
    describe_version_policy,
    read_promotions,
    set_live,
    write_settings,
)
from .control import Control
from .history import HistoryEntry, check_reason, make_entry
from .repository import Repository
from .states import clear_rollout, live_without_candidate, rollout_on_disk
from .version import keep_specs, name_versions, read_accelerators, read_spec


class RolloutEnded(RepositoryError):
    """A version is not, or no longer, the canary or shadow of its model."""


def promote(
    repository: Repository,
    model: str,
    version: int,
    *,
    control: Control | None = None,
    reason: str = "",
    if_candidate: bool = False,
    settings: ServingSettings | None = None,
) -> None:
    """Make a version the only live one, whatever version policy an operator wrote into the configuration.

    A canary or shadow ends: its candidate if that is promoted becomes the live version.

    With a control, the change happens on disk and in the running server, or in neither. The one exception is a server
    that does not answer in time: it may still load the version whose promotion was undone on disk.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        version: number of the version that goes live.
        control: the control of a running server, which loads the version; None changes the disk only.
        reason: why, for the history.
        if_candidate: promote the version only if it still is the canary or shadow of the model.
        settings: serving settings that replace those in the configuration in the same change; None keeps these.

    Raises:
        RolloutEnded: ``if_candidate`` is true, and it is not; nothing was changed. This is a RepositoryError.
        RepositoryError: there is no such model or version, or the repository cannot be changed. Or the server cannot
            load the version, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong.
    """
    _check(repository, control)
    check_whole("version", version)
    check_reason(reason)
    check_flag("if_candidate", if_candidate)
    check_instance("settings", settings, ServingSettings, optional=True)

    def update(config: ModelConfig) -> HistoryEntry:
        numbers = repository.version_numbers(model)
        require_version(model, version, numbers)
        if if_candidate:
            _require_candidate(model, version, rollout_on_disk(config, numbers))
        promotions, before = read_promotions(config), _newest(live_without_candidate(config, numbers))
        clear_rollout(config)
        if settings is not None:
            write_settings(config, settings)
        _set_promotions(repository, model, config, [*promotions, version] if promotions[-1] != version else promotions)
        return make_entry("promote", before, version, reason)

    change_model(repository, model, update, control)


def rollback(
    repository: Repository,
    model: str,
    *,
    control: Control | None = None,
    reason: str = "",
    automatic: bool = False,
    candidate: int | None = None,
) -> None:
    """End the canary or shadow of a model; without one, make the version live that was live before the last promotion.

    The candidate of a canary or shadow is taken out of service at once, before anything is loaded.

    With a control, the change happens on disk and in the running server, or in neither, as for `promote`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        control: the control of a running server, which loads the version; None changes the disk only.
        reason: why, for the history.
        automatic: whether a program decided, which the history tells.
        candidate: end the canary or shadow only if this version still is the candidate, and undo no promotion. None
            rolls back whatever is there.

    Raises:
        RolloutEnded: ``candidate`` is given, and is not the canary or shadow; nothing was changed. This is a
            RepositoryError.
        RepositoryError: there is no such model, no earlier promotion, the last promoted version is not live because
            an operator edited the version policy, or the repository cannot be changed. Or the server cannot load the
            version, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong.
    """
    _check(repository, control)
    check_reason(reason)
    check_flag("automatic", automatic)
    if candidate is not None:
        check_whole("candidate", candidate)
    what = "automatic rollback" if automatic else "rollback"
    ended: Rollout | None = None

    def update(config: ModelConfig) -> HistoryEntry:
        nonlocal ended
        numbers = repository.version_numbers(model)
        live, ended = live_without_candidate(config, numbers), rollout_on_disk(config, numbers)
        if candidate is not None:
            _require_candidate(model, candidate, ended)
        if ended is not None:
            # Nothing but the version policy: Triton then loads nothing, and the candidate is gone in milliseconds.
            config.version_policy.Clear()
            config.version_policy.specific.versions.extend(live)
            return make_entry(what, ended.version, _newest(live), reason)
        clear_rollout(config)
        _set_previous_live(repository, model, config, live)
        return make_entry(what, _newest(live), read_promotions(config)[-1], reason)

    def clear_ended(config: ModelConfig) -> None:
        # Somebody else may have started the next rollout by now.
        if rollout_on_disk(config, repository.version_numbers(model)) is None:
            clear_rollout(config)

    change_model(repository, model, update, control)
    if ended is not None:
        # From then on clients do not try the candidate any more. It is out of service in any case.
        with contextlib.suppress(TamizError):
            change_model(repository, model, clear_ended, control)


def _set_previous_live(repository: Repository, model: str, config: ModelConfig, live: Sequence[int]) -> None:
    promotions = read_promotions(config)
    if len(promotions) < 2:
        raise RepositoryError(
            f"model {model}: version {promotions[0]} was the first live version; there is nothing to roll back to"
        )
    require_promoted_live(model, config, live)
    _set_promotions(repository, model, config, promotions[:-1])


def _require_candidate(model: str, version: int, rollout: Rollout | None) -> None:
    if rollout is None or rollout.version != version:
        others = "it has none" if rollout is None else f"version {rollout.version} is"
        raise RolloutEnded(f"model {model}: version {version} is not its canary or shadow any more; {others}")


def require_version(model: str, version: int, numbers: Sequence[int]) -> None:
    """Raise a RepositoryError if a model has no such version on disk."""
    if version not in numbers:
        raise RepositoryError(
            f"model {model} has no version {version}; its versions are {', '.join(map(str, numbers))}"
        )


def require_promoted_live(model: str, config: ModelConfig, live: Sequence[int]) -> int:
    """The version that was promoted last; raise a RepositoryError if an operator took it out of service."""
    promoted = read_promotions(config)[-1]
    if promoted not in live:
        raise RepositoryError(
            f"model {model}: version {promoted}, which was promoted last, is not live: config.pbtxt was "
            f"edited and has {describe_version_policy(config)}; name the live version with `tamiz promote`"
        )
    return promoted


def apply_settings(
    repository: Repository, model: str, settings: ServingSettings, *, control: Control | None = None
) -> None:
    """Replace the serving settings of a published model, and nothing else of its configuration.

    With a control, the change happens on disk and in the running server, or in neither, as for `promote`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        settings: the settings that replace those in the configuration.
        control: the control of a running server, which loads the change; None changes the disk only.

    Raises:
        RepositoryError: there is no such model, or the repository cannot be changed. Or the server cannot load the
            change, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong.
    """
    _check(repository, control)
    check_instance("settings", settings, ServingSettings)
    change_model(repository, model, lambda config: write_settings(config, settings), control)


def describe_live(repository: Repository, model: str, before: Sequence[int], *, control: Control | None = None) -> str:
    """Say in one line which version of a model is live on disk, and what a running server serves.

    Args:
        repository: the repository.
        model: name of the model.
        before: the versions that servers loaded by the disk before a change; none for a new model.
        control: the control of a running server, which is asked; None says what a server that runs would serve.

    Raises:
        RepositoryError: there is no such model, or its configuration cannot be read.
        ServerError: the server cannot be reached or rejects the key.
    """
    live, rollout = repository.live_numbers(model), repository.rollout(model)
    loaded = sorted({*live, *([] if rollout is None else [rollout.version])})
    are = "are" if len(live) > 1 else "is"
    state = f"{model}: {name_versions(live)} {are} live{_describe_rollout(rollout)} in {repository.path}"
    if control is not None:
        served = ready_versions(control, model)
        return (
            f"{state} and in {control.url}"
            if served == loaded
            else f"{state}; {control.url} serves {name_versions(served)}"
        )
    if list(before) == loaded:
        return f"{state}; whether a running server serves it was not checked: pass its --url"
    serves = f"still serves {name_versions(before)}" if before else "does not serve it yet"
    return f"{state}; a running server {serves}: pass its --url to have it load the change"


def _check(repository: object, control: object) -> None:
    check_instance("repository", repository, Repository)
    check_instance("control", control, Control, optional=True)


def _newest(versions: Sequence[int]) -> int | None:
    return versions[-1] if versions else None


def _describe_rollout(rollout: Rollout | None) -> str:
    if rollout is None:
        return ""
    shares = []
    if rollout.canary:
        by = ", chosen by image" if rollout.sticky else ""
        shares.append(f"as a canary answers {rollout.canary:.4g} of the calls{by}")
    if rollout.shadow:
        shares.append(f"as a shadow is sent {rollout.shadow:.4g} of {'the others' if rollout.canary else 'the calls'}")
    return f", version {rollout.version} {' and '.join(shares)}"


def _set_promotions(repository: Repository, model: str, config: ModelConfig, promotions: list[int]) -> None:
    numbers = repository.version_numbers(model)
    if promotions[-1] not in numbers:
        raise RepositoryError(f"model {model}: version {promotions[-1]} cannot go live: it is no longer on disk")
    # A version that was removed can leave the same version before and after it.
    on_disk = [version for version, _ in groupby(version for version in promotions if version in numbers)]
    folder, before, after = repository.path / model, read_promotions(config)[-1], promotions[-1]
    keep_specs(config, folder, after, numbers)
    change_accelerators(config, read_accelerators(folder, before), read_accelerators(folder, after))
    set_live(config, on_disk, read_spec(folder, after))
