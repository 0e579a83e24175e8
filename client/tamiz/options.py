"""Command-line options that several commands share: the same name and help text in each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from .arguments import MAX_SHOWN
from .errors import UsageError, cut
from .transports import Tls

DEFAULT_REPOSITORY = Path("model_repository")
"""Folder of the model repository unless ``--repository`` names another."""

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]
ModelOption: TypeAlias = Annotated[str, typer.Option("--model", help="Name of the model.")]
RepositoryOption: TypeAlias = Annotated[Path, typer.Option("--repository", help="Folder of the model repository.")]
UrlOption: TypeAlias = Annotated[
    str, typer.Option("--url", help="URL of the server, or of several: grpc://host:port,host:port.")
]
RunningServerOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", help="URL of a running server of the repository, which is changed too: grpc://host:port."),
]
KeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--key", envvar="TAMIZ_KEY", help="Key of the server, as `tamiz serve` prints it."),
]
HeaderOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--header", help="Header sent with every request, as name=value; repeatable.")
]
CaOption: TypeAlias = Annotated[
    Path | None, typer.Option("--ca", help="Certificate authority (PEM) that signed the server's certificate.")
]
CertificateOption: TypeAlias = Annotated[
    Path | None, typer.Option("--certificate", help="Certificate of the client (PEM).")
]
CertificateKeyOption: TypeAlias = Annotated[
    Path | None, typer.Option("--certificate-key", help="Private key of --certificate (PEM).")
]
ReasonOption: TypeAlias = Annotated[str, typer.Option("--reason", help="Why, for `tamiz history`.")]
ImagesArgument: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Image files, or folders that are searched for image files.")
]


def parse_headers(texts: Sequence[str] | None) -> dict[str, str]:
    """The headers that the values of ``--header`` name.

    Raises:
        UsageError: a value is not name=value.
    """
    headers = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not name or not separator:
            # Not the whole text, which may be a secret.
            raise UsageError(f"--header {name or '='}: write name=value")
        headers[name] = value
    return headers


def make_tls(ca: Path | None, certificate: Path | None, certificate_key: Path | None) -> Tls | None:
    """The certificates that the options name; None without any."""
    return Tls(ca, certificate, certificate_key) if ca or certificate or certificate_key else None


def name_repository(path: Path) -> list[str]:
    """The arguments of a suggested command that name a model repository: none for the default one."""
    return [] if path == DEFAULT_REPOSITORY else ["--repository", str(path)]


def parse_share(name: str, text: str) -> float:
    """The share of the calls that an option names, such as ``10%`` or ``0.1``.

    Raises:
        UsageError: it is something else, or not above 0 and at most 100 %.
    """
    number = text.strip().removesuffix("%")
    percent = number != text.strip()
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UsageError(
            f"--{name} {cut(text, MAX_SHOWN)}: give a share of the calls, above 0 and at most 1: 10% or 0.1"
        )
    return share
