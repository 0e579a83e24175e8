"""``tamiz promote`` and ``tamiz rollback``: change which version of a model is live."""

from __future__ import annotations

from typing import Annotated

import typer

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
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        promotion.promote(Repository(repository), model, version, control=control)
    print(f"{model}: version {version} is live")


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
        promotion.rollback(store, model, control=control)
    print(f"{model}: version {store.live_version(model).version} is live")
