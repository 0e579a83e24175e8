"""``tamiz promote`` and ``tamiz rollback``: change which version of a model is live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from tamiz.console import progress_line
from tamiz.errors import UsageError
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
    make_tls,
    parse_headers,
    parse_share,
)

from .. import promotion
from ..control import Control, open_control
from ..repository import Repository
from ..rollout import start_rollout
from ..triton_faults import known_version, setting_warnings


def promote(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(help="Number of the version that goes live.")],
    canary: Annotated[
        str | None, typer.Option(help="Load the version beside the live one; it answers this share of the calls: 10%.")
    ] = None,
    sticky: Annotated[
        str | None,
        typer.Option(help='With --canary: "image" has the content of an image decide which version answers it.'),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(
            help="Load the version beside the live one; it is sent this share of the calls as well, 5%, and its "
            "answers are compared and discarded."
        ),
    ] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    reason: ReasonOption = "",
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
) -> None:
    """Make a version the live one, on disk and, with --url, in a running server.

    With --canary or --shadow the live version stays, and clients send the other one a share of their calls. Promote it
    again without them to make it the live one, or end the canary or shadow with `tamiz rollback`.
    """
    if sticky not in (None, "image"):
        raise UsageError(f"--sticky {sticky}: only image is known")
    if sticky and canary is None:
        raise UsageError("--sticky is for a canary; give --canary with the share of the calls")
    shares = {name: parse_share(name, text) for name, text in (("canary", canary), ("shadow", shadow)) if text}
    tls = make_tls(ca, certificate, certificate_key)
    store = Repository(repository)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        before = store.loaded_numbers(model)
        if shares:
            start_rollout(store, model, version, **shares, sticky=bool(sticky), control=control, reason=reason)
        else:
            promotion.promote(store, model, version, control=control, reason=reason)
        _print_state(store, model, before, control)


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
    tls = make_tls(ca, certificate, certificate_key)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        before = store.loaded_numbers(model)
        promotion.rollback(store, model, control=control, reason=reason)
        _print_state(store, model, before, control)


def _print_state(store: Repository, model: str, before: Sequence[int], control: Control | None) -> None:
    """Print what is live, and warn of settings that an operator may have edited since the model was published."""
    progress_line(promotion.describe_live(store, model, before, control=control))
    for warning in setting_warnings(store.config(model), known_version(control)):
        progress_line(f"warning: model {model}: {warning}")
