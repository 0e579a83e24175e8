"""Promotion and rollback: which version of a model is live, and how it is served, on disk and in a running server.

The repository is changed first, then the server loads the model. If the server does not follow, the repository is
changed back, so that the two agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from tamiz.arguments import check_instance, check_whole
from tamiz.errors import InferenceError, InvalidRequestError, RepositoryError, TamizError

from .config import (
    PROMOTIONS,
    ModelConfig,
    ServingSettings,
    describe_version_policy,
    drop_versions,
    live_on_disk,
    read_promotions,
    set_live,
    write_settings,
)
from .control import Control
from .repository import ConfigChange, Repository
from .version import read_spec


def promote(repository: Repository, model: str, version: int, *, control: Control | None = None) -> None:
    """Make a version the only live one, whatever version policy an operator wrote into the configuration.

    With a control, the change happens on disk and in the running server, or in neither. The one exception is a server
    that does not answer in time: it may still load the version whose promotion was undone on disk.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        version: number of the version that goes live.
        control: the control of a running server, which loads the version; None changes the disk only.

    Raises:
        RepositoryError: there is no such model or version, or the repository cannot be changed. Or the server cannot
            load the version, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong.
    """
    _check(repository, control)
    check_whole("version", version)

    def update(config: ModelConfig) -> None:
        numbers = repository.version_numbers(model)
        if version not in numbers:
            raise RepositoryError(
                f"model {model} has no version {version}; its versions are {', '.join(map(str, numbers))}"
            )
        promotions = read_promotions(config)
        _set_promotions(repository, model, config, [*promotions, version] if promotions[-1] != version else promotions)

    _follow(repository, model, repository.update_config(model, update), control)


def rollback(repository: Repository, model: str, *, control: Control | None = None) -> None:
    """Make the version live that was live before the last promotion.

    With a control, the change happens on disk and in the running server, or in neither, as for `promote`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        control: the control of a running server, which loads the version; None changes the disk only.

    Raises:
        RepositoryError: there is no such model, no earlier promotion, the last promoted version is not live because
            an operator edited the version policy, or the repository cannot be changed. Or the server cannot load the
            version, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
        UsageError: an argument is wrong.
    """
    _check(repository, control)

    def update(config: ModelConfig) -> None:
        promotions = read_promotions(config)
        if len(promotions) < 2:
            raise RepositoryError(
                f"model {model}: version {promotions[0]} was the first live version; there is nothing to roll back to"
            )
        live = live_on_disk(config, repository.version_numbers(model))
        if promotions[-1] not in live:
            raise RepositoryError(
                f"model {model}: version {promotions[-1]}, which was promoted last, is not live: config.pbtxt was "
                f"edited and has {describe_version_policy(config)}; name the live version with `tamiz promote`"
            )
        _set_promotions(repository, model, config, promotions[:-1])

    _follow(repository, model, repository.update_config(model, update), control)


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
    change = repository.update_config(model, lambda config: write_settings(config, settings))
    _follow(repository, model, change, control)


def describe_live(repository: Repository, model: str, before: Sequence[int], *, control: Control | None = None) -> str:
    """Say in one line which version of a model is live on disk, and what a running server serves.

    Args:
        repository: the repository.
        model: name of the model.
        before: the versions that were live on disk before a change; none for a new model.
        control: the control of a running server, which is asked; None says what a server that runs would serve.

    Raises:
        RepositoryError: there is no such model, or its configuration cannot be read.
        ServerError: the server cannot be reached or rejects the key.
    """
    live = repository.live_numbers(model)
    on_disk = f"{model}: {_name(live)} is live in {repository.path}"
    if control is not None:
        served = _ready_versions(control, model)
        return (
            f"{on_disk} and in {control.url}" if served == live else f"{on_disk}; {control.url} serves {_name(served)}"
        )
    if list(before) == live:
        return f"{on_disk}; whether a running server serves it was not checked: pass its --url"
    state = f"still serves {_name(before)}" if before else "does not serve it yet"
    return f"{on_disk}; a running server {state}: pass its --url to have it load the change"


def _check(repository: object, control: object) -> None:
    check_instance("repository", repository, Repository)
    check_instance("control", control, Control, optional=True)


def _name(versions: Sequence[int]) -> str:
    return f"version {', '.join(map(str, versions))}" if versions else "no version"


def _ready_versions(control: Control, model: str) -> list[int]:
    return sorted(state.version for state in control.models() if (state.model, state.state) == (model, "READY"))


def _set_promotions(repository: Repository, model: str, config: ModelConfig, promotions: list[int]) -> None:
    numbers = repository.version_numbers(model)
    if promotions[-1] not in numbers:
        raise RepositoryError(f"model {model}: version {promotions[-1]} cannot go live: it is no longer on disk")
    drop_versions(config, keep=numbers)
    on_disk = [version for version in promotions if version in numbers]
    set_live(config, on_disk, read_spec(repository.path / model, promotions[-1]))


def _follow(repository: Repository, model: str, change: ConfigChange, control: Control | None) -> None:
    """Have the server load a changed model and verify that it did; undo the change on disk if it did not."""
    if control is None:
        return
    try:
        control.load(model)
        _require_followed(repository, model, change.after, control)
    except BaseException as exc:
        _undo(repository, model, change)
        if isinstance(exc, InvalidRequestError | InferenceError):
            # A server in another control mode refuses to load models.
            hint = "; start Triton with --model-control-mode=explicit" if "explicit model load" in str(exc) else ""
            raise RepositoryError(f"the server could not load the change; the change was undone: {exc}{hint}") from exc
        if not isinstance(exc, TamizError):
            # Interrupted, for example by Ctrl-C: the server may have loaded the change already, and must load the old
            # configuration again.
            with contextlib.suppress(TamizError):
                control.load(model)
        raise


def _require_followed(repository: Repository, model: str, config: ModelConfig, control: Control) -> None:
    """Ask the server what it serves, because its answer to a load says only that loading did not fail."""
    served = control.config(model)
    expected = live_on_disk(config, repository.version_numbers(model))
    ready = _ready_versions(control, model)
    same_file = served.parameters[PROMOTIONS].string_value == config.parameters[PROMOTIONS].string_value
    if not same_file or ready != expected:
        has, wants = (", ".join(map(str, numbers)) or "none" for numbers in (ready, expected))
        raise RepositoryError(
            f"{control.url} does not serve {repository.path}: after the change, the server has version {has} of "
            f"{model}, on disk it is {wants}; the change was undone"
        )


def _undo(repository: Repository, model: str, change: ConfigChange) -> None:
    """Restore the configuration from before a change, unless it was changed again since."""

    def update(config: ModelConfig) -> None:
        if config == change.after:
            config.CopyFrom(change.before)

    repository.update_config(model, update)
