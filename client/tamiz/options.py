"""Command-line options that several commands share: the same name and help text in each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

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
ImagesArgument: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Image files, or folders that are searched for image files.")
]
