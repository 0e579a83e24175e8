"""Command-line options that several commands share, so that each has one name and one help text everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_REPOSITORY = Path("model_repository")

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document, as the last line.")]
ModelOption: TypeAlias = Annotated[str, typer.Option("--model", help="Name of the model.")]
RepositoryOption: TypeAlias = Annotated[Path, typer.Option("--repository", help="Folder of the model repository.")]
UrlOption: TypeAlias = Annotated[str, typer.Option("--url", help="The server, or several: grpc://host:port,host:port.")]
RunningServerOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", help="Also change this running server of the repository, grpc://host:port."),
]
KeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--key", envvar="TAMIZ_KEY", help="Key of the server, which `tamiz serve` prints; or set TAMIZ_KEY."),
]
ImagesArgument: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Image files, and folders that are searched for image files.")
]
