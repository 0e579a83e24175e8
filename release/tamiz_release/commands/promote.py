"""``tamiz promote``: make a version the live one, or try it on a part of the calls and watch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tamiz.arguments import check_number
from tamiz.bulk.inputs import find_images
from tamiz.console import ExitCode, progress_line
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
    parse_share,
)
from tamiz_server.commands.connection import connect
from tamiz_server.commands.promotion import print_state
from tamiz_server.control import Control
from tamiz_server.promotion import promote as promote_version
from tamiz_server.repository import Repository
from tamiz_server.rollout import start_rollout

from ..registry import synchronise
from .arguments import make_watch_limits, parse_duration


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
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --canary or --shadow: watch the version for 90s, 10m or 1h, and roll it back if it fails more "
            "often, is slower, or answers otherwise than the live version beyond the limits below.",
        ),
    ] = None,
    then_promote: Annotated[
        bool, typer.Option("--then-promote", help="After a watch without a rollback, make the version the live one.")
    ] = False,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="With --watch: an image file or a folder of them; both versions are asked about the same ones. "
            "Repeatable. Default: random pixels, and answers are not compared.",
        ),
    ] = None,
    probes: Annotated[
        float | None, typer.Option(help="With --watch: such images a second; 0 for none. Default: 5.")
    ] = None,
    max_errors: Annotated[
        str | None,
        typer.Option(help="With --watch: by how much its error rate may be above the live version's. Default: 1%."),
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(
            help="With --watch: how many times those of the live version its p99 and its median latency may be. "
            "Default: 1.5."
        ),
    ] = None,
    min_agreement: Annotated[
        str | None,
        typer.Option(help="With --watch: how many of its answers must be those of the live version. Default: 80%."),
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
    again without them to make it the live one, or end the canary or shadow with `tamiz rollback`. --watch does that by
    itself as soon as the version is worse than the live one, and then exits with 1.
    """
    if sticky not in (None, "image"):
        raise UsageError(f"--sticky {sticky}: only image is known")
    if sticky and canary is None:
        raise UsageError("--sticky is for a canary; give --canary with the share of the calls")
    given_shares = {"canary": canary, "shadow": shadow}
    shares: dict[str, Any] = {name: parse_share(name, text) for name, text in given_shares.items() if text is not None}
    options: dict[str, Any] = {
        "then_promote": then_promote or None,
        "images": images,
        "probes": probes,
        "max_errors": max_errors,
        "max_latency": max_latency,
        "min_agreement": min_agreement,
    }
    given = {name: value for name, value in options.items() if value is not None}
    _check_watch(watch, given, shares, url)
    watching = None if watch is None else _read_watch(watch, **given)
    store = Repository(repository)
    with connect(url, key, header, ca, certificate, certificate_key) as control:
        before = store.loaded_numbers(model)
        if shares:
            start_rollout(store, model, version, **shares, sticky=bool(sticky), control=control, reason=reason)
        else:
            promote_version(store, model, version, control=control, reason=reason)
        print_state(store, model, before, control)
        try:
            if watching is not None:
                _watch(store, model, control, watching)
        finally:
            # After the watch, which must begin at once, and whatever its end is.
            synchronise(store, model, on_progress=progress_line)


def _check_watch(watch: str | None, given: Mapping[str, object], shares: Mapping[str, float], url: str | None) -> None:
    if watch is None:
        if given:
            name = next(iter(given)).replace("_", "-")
            raise UsageError(f"--{name} is for a watch; give --watch with its duration: 10m")
    elif not shares:
        raise UsageError("--watch is for a canary or shadow; give --canary with the share of the calls: 10%")
    elif url is None:
        raise UsageError("--watch is for a running server; give its --url")


def _read_watch(
    watch: str,
    *,
    then_promote: bool = False,
    images: Sequence[Path] = (),
    probes: float | None = None,
    max_errors: str | None = None,
    max_latency: float | None = None,
    min_agreement: str | None = None,
) -> dict[str, Any]:
    """The arguments of `tamiz_release.watch` that the options give, checked before anything is changed."""
    from ..rollout.probes import require_readable
    from ..rollout.watch import PROBES_PER_S

    if probes is None:
        probes = PROBES_PER_S
    check_number("--probes", probes, "a number from 0 to 1,000", above=-1e-9, below=1_000 + 1e-9)
    limits = make_watch_limits(max_errors, max_latency, min_agreement)
    found = find_images(images) if images else []
    require_readable(found)
    return {
        "watch_s": parse_duration("watch", watch),
        "limits": limits,
        "images": found,
        "probes_per_s": probes,
        "then_promote": then_promote,
    }


def _watch(store: Repository, model: str, control: Control | None, watching: Mapping[str, Any]) -> None:
    from ..rollout.watch import watch

    assert control is not None, "a watch needs a URL"
    report = watch(store, model, control=control, on_progress=progress_line, **watching)
    progress_line(report.text)
    if report.outcome != ("promoted" if watching["then_promote"] else "kept"):
        raise typer.Exit(ExitCode.FAILED)
