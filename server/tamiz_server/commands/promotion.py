"""``tamiz rollback``: take the last change of which versions of a model serve back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tamiz.console import progress_line
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    KeyOption,
    ReasonOption,
    RepositoryOption,
    RunningServerOption,
)

from .. import promotion
from ..control import Control
from ..repository import Repository
from ..triton_faults import known_version, setting_warnings
from .connection import connect


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    reason: ReasonOption = "",
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
) -> None:
    """End a canary or shadow, or undo the last promotion, on disk and, with --url, in a running server."""
    store = Repository(repository)
    with connect(url, key, header, ca, certificate, certificate_key) as control:
        before = store.loaded_numbers(model)
        promotion.rollback(store, model, control=control, reason=reason)
        print_state(store, model, before, control)


def print_state(store: Repository, model: str, before: Sequence[int], control: Control | None) -> None:
    """Print what is live, and warn of settings that an operator may have edited since the model was published."""
    progress_line(promotion.describe_live(store, model, before, control=control))
    for warning in setting_warnings(store.config(model), known_version(control)):
        progress_line(f"warning: model {model}: {warning}")
