"""Pruning: removing the oldest versions of a model that nothing needs any more."""

from __future__ import annotations

from tamiz.arguments import check_instance, check_whole

from .change import ready_versions
from .control import Control
from .history import check_reason
from .repository import Repository


def prune(
    repository: Repository, model: str, keep: int, *, control: Control | None = None, reason: str = ""
) -> list[int]:
    """Remove all versions of a model except the newest ones and those that are in use.

    A version that is live, a canary or a shadow, and the one that a rollback makes live, are never removed. Each other
    one disappears from its place at once, so that no server finds half of it.

    Args:
        repository: the repository.
        model: name of the model.
        keep: number of the newest versions to keep; those in use are kept besides.
        control: the control of a running server, whose loaded versions are kept too; None asks no server.
        reason: why, for the history.

    Returns:
        the numbers of the removed versions, lowest first. They are never used again.

    Raises:
        RepositoryError: there is no such model, or the repository cannot be changed.
        ServerError: the server cannot be reached or rejects the key.
        UsageError: an argument is wrong.
    """
    check_instance("repository", repository, Repository)
    check_instance("control", control, Control, optional=True)
    check_whole("keep", keep, least=0)
    check_reason(reason)
    served = [] if control is None else ready_versions(control, model)
    return repository.remove_versions(model, keep=int(keep), also_keep=served, reason=reason)
