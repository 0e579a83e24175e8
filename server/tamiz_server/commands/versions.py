"""``tamiz versions prune``: remove the oldest versions of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from tamiz.console import print_json, progress_line
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    RepositoryOption,
)

from .. import pruning
from ..repository import Repository
from ..version import name_versions
from .connection import connect


def prune(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    keep: Annotated[int, typer.Option(min=0, help="Number of the newest versions to keep.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    reason: ReasonOption = "",
    url: Annotated[
        str | None,
        typer.Option("--url", help="Keep the versions that this running server has loaded, too: grpc://host:port."),
    ] = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the versions of a model that are older than the newest ones.

    A version that is live, a canary or a shadow, and the one that a rollback makes live, are kept in any case. A server
    that runs goes on serving what it has loaded.
    """
    store = Repository(repository)
    with connect(url, key, header, ca, certificate, certificate_key) as control:
        removed = pruning.prune(store, model, keep, control=control, reason=reason)
    left = store.version_numbers(model)
    if as_json:
        print_json({"model": model, "removed": removed, "kept": left})
        return
    progress_line(f"removed {name_versions(removed)} of {model}" if removed else f"{model}: nothing to remove")
    progress_line(f"kept {name_versions(left)}")
