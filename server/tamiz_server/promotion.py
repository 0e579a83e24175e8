"""Promotion and rollback: which version of a model is live, on disk and in a running server.

The repository is changed first, then the server loads the model. If the server does not follow, the repository is
changed back, so that the two agree.
"""

from __future__ import annotations

import contextlib

from tamiz.errors import InferenceError, InvalidRequestError, RepositoryError, TamizError
from tamiz.served_version import live_versions

from .config import ModelConfig, drop_versions, read_promotions, set_live
from .control import Control
from .repository import ConfigChange, Repository
from .version import read_spec


def promote(repository: Repository, model: str, version: int, *, control: Control | None = None) -> None:
    """Make a version the live one.

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
    """

    def update(config: ModelConfig) -> None:
        numbers = repository.version_numbers(model)
        if version not in numbers:
            raise RepositoryError(
                f"model {model} has no version {version}; its versions are {', '.join(map(str, numbers))}"
            )
        promotions = read_promotions(config)
        if promotions[-1] != version:
            _set_promotions(repository, model, config, [*promotions, version])

    _follow(repository, model, repository.update_config(model, update), control)


def rollback(repository: Repository, model: str, *, control: Control | None = None) -> None:
    """Make the version live that was live before the last promotion.

    With a control, the change happens on disk and in the running server, or in neither, as for `promote`.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        control: the control of a running server, which loads the version; None changes the disk only.

    Raises:
        RepositoryError: there is no such model, no earlier promotion, or the repository cannot be changed. Or the
            server cannot load the version, or serves another repository; the repository is then as it was before.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
    """

    def update(config: ModelConfig) -> None:
        promotions = read_promotions(config)
        if len(promotions) < 2:
            raise RepositoryError(
                f"model {model}: version {promotions[0]} was the first live version; there is nothing to roll back to"
            )
        _set_promotions(repository, model, config, promotions[:-1])

    _follow(repository, model, repository.update_config(model, update), control)


def _set_promotions(repository: Repository, model: str, config: ModelConfig, promotions: list[int]) -> None:
    numbers = repository.version_numbers(model)
    if promotions[-1] not in numbers:
        raise RepositoryError(f"model {model}: version {promotions[-1]} cannot go live: it is no longer on disk")
    drop_versions(config, keep=numbers)
    on_disk = [version for version in promotions if version in numbers]
    set_live(config, on_disk, read_spec(repository.path / model, promotions[-1]))


def _follow(repository: Repository, model: str, change: ConfigChange, control: Control | None) -> None:
    """Have the server load a changed model; undo the change on disk if it does not."""
    if control is None:
        return
    try:
        control.load(model)
        ready = {state.version for state in control.models() if (state.model, state.state) == (model, "READY")}
        if not ready.issuperset(live_versions(change.after)):
            raise RepositoryError(
                f"{control.url} does not serve {repository.path}: after the change, the server's live version of "
                f"{model} is {', '.join(map(str, sorted(ready))) or 'none'}; the change was undone"
            )
    except BaseException as exc:
        _undo(repository, model, change)
        if isinstance(exc, InvalidRequestError | InferenceError):
            raise RepositoryError(f"the server could not load the change; the change was undone: {exc}") from exc
        if not isinstance(exc, TamizError):
            # Interrupted, for example by Ctrl-C: the server may have loaded the change already, and must load the old
            # configuration again.
            with contextlib.suppress(TamizError):
                control.load(model)
        raise


def _undo(repository: Repository, model: str, change: ConfigChange) -> None:
    """Restore the configuration from before a change, unless it was changed again since."""

    def update(config: ModelConfig) -> None:
        if config == change.after:
            config.CopyFrom(change.before)

    repository.update_config(model, update)
