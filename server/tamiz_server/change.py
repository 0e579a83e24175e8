"""A change of a model's configuration: on disk and in a running server, or in neither.

The repository is changed first, then the server loads the model. If the server does not follow, the repository is
changed back, so that the two agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tamiz.errors import InferenceError, InvalidRequestError, RepositoryError, TamizError

from .config import PROMOTIONS, ModelConfig, live_on_disk
from .control import Control
from .history import HistoryEntry, remove_entry
from .log import add_remedy
from .repository import ConfigChange, Repository


def change_model(
    repository: Repository, model: str, update: Callable[[ModelConfig], HistoryEntry | None], control: Control | None
) -> ConfigChange:
    """Change a model's configuration on disk, and have a running server load it.

    The one exception to "both or neither" is a server that does not answer in time: it may still load the change that
    was undone on disk.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        update: changes the configuration in place, and may return what the history shall have of the change; what it
            raises is raised, and nothing is changed.
        control: the control of a running server; None changes the disk only.

    Raises:
        RepositoryError: there is no such model, or the repository cannot be changed. Or the server cannot load the
            change, or serves another repository; the repository is then as it was before. If another process has
            changed the same fields meanwhile, they stay, and the message says so.
        ServerError: the server cannot be reached or rejects the key; the repository is then as it was before.
    """
    change = repository.update_config(model, update)
    if control is not None:
        _follow(repository, model, change, control)
    return change


def ready_versions(control: Control, model: str) -> list[int]:
    """The versions of a model that a server serves, lowest first.

    Raises:
        ServerError: the server cannot be reached or rejects the key.
    """
    return sorted(state.version for state in control.models() if (state.model, state.state) == (model, "READY"))


def _follow(repository: Repository, model: str, change: ConfigChange, control: Control) -> None:
    """Have the server load a changed model and verify that it did; undo the change on disk if it did not."""
    try:
        control.load(model)
        _require_followed(repository, model, change.after, control)
    except BaseException as exc:
        obstacle = _undo(repository, model, change)
        if obstacle and isinstance(exc, TamizError):
            raise RepositoryError(f"{add_remedy(str(exc))}; the change could not be undone: {obstacle}") from exc
        if isinstance(exc, InvalidRequestError | InferenceError):
            reason = add_remedy(str(exc))
            raise RepositoryError(f"the server could not load the change; the change was undone: {reason}") from exc
        if isinstance(exc, RepositoryError):
            raise RepositoryError(f"{exc}; the change was undone") from exc
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
    ready = ready_versions(control, model)
    same_file = served.parameters[PROMOTIONS].string_value == config.parameters[PROMOTIONS].string_value
    if not same_file or ready != expected:
        has, wants = (", ".join(map(str, numbers)) or "none" for numbers in (ready, expected))
        raise RepositoryError(
            f"{control.url} does not serve {repository.path}: after the change, the server has version {has} of "
            f"{model}, on disk it is {wants}"
        )


def _undo(repository: Repository, model: str, change: ConfigChange) -> str:
    """Restore the fields that a change changed, and remove it from the history; why not, or empty if it was done."""
    again: list[str] = []

    def update(config: ModelConfig) -> None:
        again.extend(_restore(config, change))
        if change.entry is not None and not again:
            remove_entry(repository.path / model, change.entry)

    try:
        repository.update_config(model, update)
    except TamizError as exc:
        return str(exc)
    return f"{', '.join(again)} of {model} changed again meanwhile; see `tamiz history {model}`" if again else ""


def _restore(config: ModelConfig, change: ConfigChange) -> list[str]:
    """Restore what a change made of a configuration, unless it was changed again since; the names of what was."""
    before, after, now = _parts(change.before), _parts(change.after), _parts(config)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if again := [name for name in changed if now.get(name) != after.get(name)]:
        return again
    restored = {name: part for name, part in now.items() if name not in changed}
    restored |= {name: before[name] for name in changed if name in before}
    config.Clear()
    for part in restored.values():
        config.MergeFrom(part)
    return []


def _parts(config: ModelConfig) -> dict[str, ModelConfig]:
    """The fields of a configuration, each alone in a configuration, and each of the parameters."""
    parts = {}
    for field, _ in config.ListFields():
        part = ModelConfig()
        part.CopyFrom(config)
        for other, _ in config.ListFields():
            if other.name != field.name:
                part.ClearField(other.name)
        parts[field.name] = part
    parts.pop("parameters", None)
    for key, value in config.parameters.items():
        parts[f"parameter {key}"] = ModelConfig(parameters={key: value})
    return parts
