"""``tamiz promote`` and ``tamiz rollback``: as the server package has them, followed by MLflow's registry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tamiz.console import progress_line
from tamiz_server.commands import promotion
from tamiz_server.repository import Repository

from ..registry import synchronise


def registered(command: Callable[..., None]) -> Callable[..., None]:
    """A command that changes which version of a model is live, and then moves the aliases in MLflow's registry.

    Args:
        command: the command, with the arguments ``model`` and ``repository``.
    """

    @functools.wraps(command)
    def call(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)
        synchronise(Repository(kwargs["repository"]), kwargs["model"], on_progress=progress_line)

    return call


promote = registered(promotion.promote)
rollback = registered(promotion.rollback)
