"""Arguments and options that several commands of the release package share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from tamiz.arguments import MAX_SHOWN
from tamiz.errors import UsageError, cut
from tamiz.options import make_tls, parse_headers, parse_share
from tamiz.transports import Tls

if TYPE_CHECKING:
    from ..rollout.judge import WatchLimits

LabelledFolderOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER", help="Folder with the images of each label in a folder of that name."),
]

GateImagesOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="FOLDER",
        help="Images on which the gate measures, best with the images of each label in a folder of that name. "
        "Default: the test images of the run.",
    ),
]
GateLimitOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=NUMBER",
        help="A limit of the gate, such as label_agreement=0.99 or live_drop=0.01; repeatable.",
    ),
]
ForceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--force", metavar="REASON", help="Publish even if the gate fails; the reason is recorded with the version."
    ),
]
MaxLossOption: TypeAlias = Annotated[
    float,
    typer.Option(min=0, max=100, help="Largest accuracy (multilabel: mAP) that an INT8 graph may lose, in points."),
]
ApplyServingOption: TypeAlias = Annotated[
    bool,
    typer.Option("--apply-serving", help="Replace the serving settings of the published model by the recipe's."),
]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_WEEK_S = 7 * 24 * 3600.0


def read_connection(
    names: Iterable[str],
    header: list[str] | None,
    ca: Path | None,
    certificate: Path | None,
    certificate_key: Path | None,
) -> tuple[dict[str, str], Tls | None]:
    """The headers and certificates that the options name.

    Args:
        names: the models that the command names, one of which must be a URL for the options to have a meaning.
        header: values of ``--header``.
        ca: value of ``--ca``.
        certificate: value of ``--certificate``.
        certificate_key: value of ``--certificate-key``.

    Raises:
        UsageError: a header is malformed, or the options have no meaning.
    """
    headers, tls = parse_headers(header), make_tls(ca, certificate, certificate_key)
    if (headers or tls) and not any("://" in name for name in names):
        raise UsageError("certificates and headers are for the connection to a server, but no served model is named")
    return headers, tls


def check_force(force: str | None) -> None:
    """Check the reason of ``--force``.

    Raises:
        UsageError: it is empty.
    """
    if force is not None and not force.strip():
        raise UsageError("--force: say why; the reason is recorded with the version")


def parse_duration(name: str, text: str) -> float:
    """The seconds that an option names, such as ``90s``, ``10m`` or ``1h``.

    Raises:
        UsageError: it is something else, or not above 0 and at most a week.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= _WEEK_S:
        raise UsageError(f"--{name} {cut(text, MAX_SHOWN)}: give a time above 0 and of at most a week: 90s, 10m or 1h")
    return seconds


def make_watch_limits(errors: str | None, latency: float | None, agreement: str | None) -> WatchLimits:
    """The limits of a watch that the options name; None for the default.

    Raises:
        UsageError: one is malformed, or outside of its range.
    """
    from ..rollout.judge import WatchLimits

    limits = {
        "errors": None if errors is None else parse_share("max-errors", errors),
        "latency": latency,
        "agreement": None if agreement is None else parse_share("min-agreement", agreement),
    }
    return WatchLimits(**{name: limit for name, limit in limits.items() if limit is not None})
