"""``tamiz promote`` and ``tamiz rollback``: change which version of a model is live."""

from __future__ import annotations

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
from ..control import open_control
from ..repository import Repository


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
        progress_line(promotion.describe_live(store, model, before, control=control))


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
        progress_line(promotion.describe_live(store, model, before, control=control))
