"""``tamiz rollback``: as the server package has it, followed by MLflow's registry."""

from __future__ import annotations

import functools
from typing import Any

from tamiz.console import progress_line
from tamiz_server.commands import promotion
from tamiz_server.repository import Repository

from ..registry import synchronise


@functools.wraps(promotion.rollback)
def rollback(**arguments: Any) -> None:  # noqa: D103
    promotion.rollback(**arguments)
    synchronise(Repository(arguments["repository"]), arguments["model"], on_progress=progress_line)
