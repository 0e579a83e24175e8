"""``tamiz bench``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tamiz import Client
from tamiz.bulk.inputs import find_images
from tamiz.errors import UsageError
from tamiz.transports import DEFAULT_URL
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

from .benchmark import IN_FLIGHT, run_benchmark
from .measure import sample
from .report import make_folder, print_report, write_report


def bench(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    repository: Annotated[Path, typer.Option(help="Holds the ONNX file for the limit.")] = Path("model_repository"),
    url: Annotated[str, typer.Option(help="The server, grpc://host:port.")] = DEFAULT_URL,
    serve: Annotated[bool, typer.Option("--serve", help="Start an embedded Triton for the time.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 3.0,
    rounds: Annotated[int, typer.Option(min=1, help="In which served and limit take turns.")] = 5,
    in_flight: Annotated[
        list[int] | None, typer.Option(min=1, help="A number of requests in flight; give several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report; reports/<model> where none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")] = False,
) -> None:
    """Sweep a served model with real images, and hold it against the in-process limit.

    The limit takes the same images through the same decoding, resizing and ONNX file in one process, with the
    best setting of threads and batch that is found. Give the server and this command the same machine.
    """
    files = sample(find_images(images))
    folder = out or Path("reports") / model
    make_folder(folder)
    store = Repository(repository)
    live = store.live(model)
    with ExitStack() as stack:
        if serve:
            url = stack.enter_context(Triton(repository)).url
        client = stack.enter_context(Client(url, model=model, timeout_s=60))
        if client.live_version != live.version or client.spec != live.spec:
            raise UsageError(
                f"--repository {repository}: version {live.version} of {model} is live there, and {url} serves "
                f"version {client.live_version}; name the repository that the server serves"
            )
        report = run_benchmark(
            client,
            repository / model / str(live.version) / "model.onnx",
            files,
            seconds=seconds,
            rounds=rounds,
            in_flight=in_flight or IN_FLIGHT,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    print_report(report, Console(width=None if sys.stdout.isatty() else 120))
    write_report(report, folder)
    print(f"report: {folder}/report.json, {folder}/report.png")
    if as_json:
        print(json.dumps(report.to_dict()))
