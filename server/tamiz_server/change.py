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
from .log import add_remedy
from .repository import ConfigChange, Repository


def change_model(
    repository: Repository, model: str, update: Callable[[ModelConfig], None], control: Control | None
) -> ConfigChange:
    """Change a model's configuration on disk, and have a running server load it.

    The one exception to "both or neither" is a server that does not answer in time: it may still load the change that
    was undone on disk.

    Args:
        repository: the repository that the server serves.
        model: name of the model.
        update: changes the configuration in place; what it raises is raised, and nothing is changed.
        control: the control of a running server; None changes the disk only.

    Raises:
        RepositoryError: there is no such model, or the repository cannot be changed. Or the server cannot load the
            change, or serves another repository; the repository is then as it was before.
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
        _undo(repository, model, change)
        if isinstance(exc, InvalidRequestError | InferenceError):
            reason = add_remedy(str(exc))
            raise RepositoryError(f"the server could not load the change; the change was undone: {reason}") from exc
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
            f"{model}, on disk it is {wants}; the change was undone"
        )


def _undo(repository: Repository, model: str, change: ConfigChange) -> None:
    """Restore the configuration from before a change, unless it was changed again since."""

    def update(config: ModelConfig) -> None:
        if config == change.after:
            config.CopyFrom(change.before)

    repository.update_config(model, update)
