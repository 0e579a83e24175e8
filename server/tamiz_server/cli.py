"""The commands of the model repository and the embedded server; `tamiz.cli` lists and calls them."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tamiz.errors import RepositoryError
from tamiz.served_version import live_versions

from .control import Control, change, open_control
from .repository import Repository
from .triton import Triton

RepositoryOption = Annotated[Path, typer.Option("--repository", help="The model repository.")]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="A running server that serves the repository, grpc://host:port.")
]
KeyOption = Annotated[str | None, typer.Option("--key", envvar="TAMIZ_KEY", help="The server's key; or set TAMIZ_KEY.")]
PortHelp = "0 takes a free one."
REPOSITORY = Path("model_repository")


def serve(
    repository: RepositoryOption = REPOSITORY,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help=PortHelp)] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help=PortHelp)] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help=PortHelp)] = 8002,
    key: Annotated[
        str | None,
        typer.Option(envvar="TAMIZ_KEY", help="For promote and rollback; a random one is made and shown if none."),
    ] = None,
    log: Annotated[Path, typer.Option(help="The file for what Triton says.")] = Path("triton.log"),
) -> None:
    """Serve a model repository with the embedded Triton, on this machine's loopback, until Ctrl-C."""
    models = Repository(repository).models()
    triton = Triton(repository, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port, key=key, log=log)

    # A terminal that is closed sends SIGHUP, unless nohup has it ignored.
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> None:
        # Once is enough: a second signal must not interrupt the cleaning up.
        for ignored in signals:
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, end)
    try:
        with triton:
            live = [(model, live_versions(triton.repository.config(model))) for model in models]
            named = [f"{model} version {', '.join(map(str, versions)) or 'latest'}" for model, versions in live]
            print(f"serving {', '.join(named) or 'no models yet'}")
            print(f"gRPC {triton.url}, HTTP port {triton.ports.http}, metrics port {triton.ports.metrics}, log {log}")
            print("key as given" if key else f"key for promote and rollback: {triton.key}", flush=True)
            triton.wait()
    except KeyboardInterrupt:
        print("stopped", flush=True)


def models(
    repository: RepositoryOption = REPOSITORY,
    url: UrlOption = None,
    key: KeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List models and their versions: which are live, how accurate they are, when they were published.

    With --url, list what a running server has.
    """
    rows: list[dict[str, object]] = []
    if url is not None:
        with Control(url, key) as control:
            rows = [
                {"model": state.model, "version": state.version, "state": state.state, "reason": state.reason}
                for state in control.models()
            ]
    else:
        store = Repository(repository)
        for model in store.models():
            try:
                versions = store.versions(model)
            except RepositoryError as exc:
                # One that is damaged, or not of Tamiz, does not hide the others.
                print(f"left out: {exc}", file=sys.stderr)
                continue
            for version in versions:
                size = version.spec.preprocessing
                test = (version.manifest.get("metrics") or {}).get("test") or {}
                rows.append(
                    {
                        "model": model,
                        "version": version.version,
                        "live": version.live,
                        "labels": len(version.spec.labels),
                        "input": f"{size.height}x{size.width} {size.colour}",
                        "test accuracy": test.get("accuracy"),
                        "published": version.manifest.get("published"),
                    }
                )
    if as_json:
        print(json.dumps(rows))
        return
    if not rows:
        print(f"no models in {url or repository}")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def promote(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int, typer.Argument(help="The version that goes live.")],
    repository: RepositoryOption = REPOSITORY,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Make a version the live one, on disk and, with --url, in a running server."""
    store = Repository(repository)
    with open_control(url, key) as control:
        change(store, model, lambda: store.promote(model, version), control)
    print(f"{model}: version {version} is live")


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    repository: RepositoryOption = REPOSITORY,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """Undo the last promotion, on disk and, with --url, in a running server."""
    store = Repository(repository)
    with open_control(url, key) as control:
        change(store, model, lambda: store.rollback(model), control)
    print(f"{model}: version {store.live(model).version} is live")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "live" if value else ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
