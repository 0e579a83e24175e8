"""``tamiz history``: who published, promoted, rolled out and rolled back which version of a model, when and why."""

from __future__ import annotations

from typing import Annotated

import typer

from tamiz.console import print_json, print_table, progress_line
from tamiz.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption

from ..history import HistoryEntry
from ..repository import Repository


def history(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """List who published, promoted, rolled out and rolled back which version of a model, when and why.

    The oldest change is first. A change is listed when it took effect; one that was undone is not.
    """
    entries = Repository(repository).history(model)
    if as_json:
        print_json([entry.to_dict() for entry in entries])
    elif entries:
        print_table(("time", "who", "what", "version", "live before", "why"), map(_cells, entries))
    else:
        progress_line(f"{model} in {repository} has no history")


def _cells(entry: HistoryEntry) -> tuple[object, ...]:
    details = ", ".join(f"{name} {value}" for name, value in (entry.details or {}).items())
    what = f"{entry.what} ({details})" if details else entry.what
    versions = ("" if version is None else version for version in (entry.after, entry.before))
    return entry.time[:19].replace("T", " "), entry.who, what, *versions, entry.why
