"""The state of a release: what it has published and what is live, read from the repository."""

from __future__ import annotations

import contextlib
import shlex

from tamiz.errors import RepositoryError
from tamiz.options import name_repository
from tamiz_server.states import State
from tamiz_server.version import read_version

from .plan import ReleasePlan


def describe_state(plan: ReleasePlan) -> str:
    """Say in one line what a release has published, what is live on disk, and how to go on.

    Raises:
        RepositoryError: the repository cannot be read.
    """
    repository, model = plan.repository, plan.model
    if not repository.path.is_dir() or model not in repository.models():
        return f"{model}: nothing was published"
    live, rollout, own = repository.live_numbers(model), repository.rollout(model), _find_published(plan)
    others = f"version {live[-1]} is live" if live else "no version is live"
    if own is None:
        return f"{model}: nothing was published; {others}"
    back, forward = (_command(plan, *words) for words in (["rollback", model], ["promote", model, str(own)]))
    if own in live:
        return f"{model}: version {own} is live" + ("" if plan.is_new else f"; {back} takes it back")
    if rollout is not None and rollout.version == own:
        return f"{model}: {others}, and version {own} is a canary; end it with {back}, or make it live with {forward}"
    return f"{model}: {others}, and version {own} is published and not live; {forward} would make it live"


def _find_published(plan: ReleasePlan) -> int | None:
    """The version that the release has published; None if it was stopped before."""
    folder = plan.repository.path / plan.model
    numbers = plan.repository.version_numbers(plan.model)
    for number in sorted((number for number in numbers if number >= plan.version), reverse=True):
        # A damaged version is not the one that was published just now.
        with contextlib.suppress(RepositoryError):
            if read_version(folder, number, State.ARCHIVED).manifest.get("run") == plan.run.path.name:
                return number
    return None


def _command(plan: ReleasePlan, *words: str) -> str:
    server = [] if plan.control is None else ["--url", plan.control.url]
    return f"`{shlex.join(['tamiz', *words, *name_repository(plan.repository.path), *server])}`"
