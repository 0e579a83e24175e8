"""``tamiz promote`` and ``tamiz rollback``: change which version of a model is live."""

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
    RepositoryOption,
    RunningServerOption,
    make_tls,
    parse_headers,
)

from .. import promotion
from ..control import Control, open_control
from ..repository import Repository
from ..triton_faults import known_version, setting_warnings


def promote(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(help="Number of the version that goes live.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
) -> None:
    """Make a version the live one, on disk and, with --url, in a running server."""
    tls = make_tls(ca, certificate, certificate_key)
    store = Repository(repository)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        before = store.live_numbers(model)
        promotion.promote(store, model, version, control=control)
        _print_state(store, model, before, control)


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
) -> None:
    """Undo the last promotion, on disk and, with --url, in a running server."""
    store = Repository(repository)
    tls = make_tls(ca, certificate, certificate_key)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        before = store.live_numbers(model)
        promotion.rollback(store, model, control=control)
        _print_state(store, model, before, control)


def _print_state(store: Repository, model: str, before: Sequence[int], control: Control | None) -> None:
    """Print what is live, and warn of settings that an operator may have edited since the model was published."""
    progress_line(promotion.describe_live(store, model, before, control=control))
    for warning in setting_warnings(store.config(model), known_version(control)):
        progress_line(f"warning: model {model}: {warning}")
