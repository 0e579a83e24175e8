"""Arguments and options that several commands of the trainer share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tamiz.errors import UsageError
from tamiz.options import make_tls, parse_headers
from tamiz.transports import Tls

_RUN_HELP = "Folder of a run; or folder of a recipe's runs, for the newest finished one."

RunArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="RUN", help=_RUN_HELP)]
RunOption: TypeAlias = Annotated[Path, typer.Option("--run", metavar="RUN", help=_RUN_HELP)]
LabelledFolderOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--images", metavar="FOLDER", help="Folder with the images of each label in a folder of that name."),
]
RecipeArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a .yaml file.")
]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe, as in train.epochs=3; repeatable."),
]


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
