"""``tamiz models verify``: hash the files of a repository again, and name those that are not as they were published."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tamiz.console import ExitCode, print_json, print_table, progress_line
from tamiz.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption

from .. import verification
from ..repository import Repository


def verify(
    model: Annotated[str | None, typer.Argument(help="Name of the only model to verify.")] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> int:
    """Hash the files of the repository again, and name each that was changed, lost or added since its publication.

    The hashes are recorded in the manifest of each version and in config.pbtxt. If something differs, the exit code
    is 1.
    """
    found = verification.verify(Repository(repository), model)
    if as_json:
        print_json(asdict(found))
    else:
        if found.findings:
            print_table(
                ("file", "problem", "reason"), ((each.path, each.problem, each.reason) for each in found.findings)
            )
        for path in found.unrecorded:
            progress_line(f"{path}: not verified, because no hash of it was recorded when it was published")
        counts = f"{found.models:,} models, {found.versions:,} versions, {found.files:,} files"
        progress_line(f"verified {counts}; differences: {len(found.findings):,}")
    return ExitCode.FAILED if found.findings else ExitCode.SUCCESS
