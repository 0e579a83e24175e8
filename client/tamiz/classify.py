"""``tamiz classify``: files and folders through a served model."""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from .client import DEFAULT_URL, Client
from .errors import UsageError
from .results import find_images, open_writer, print_table, to_record


def classify(
    paths: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    url: Annotated[str, typer.Option(help="The server, grpc://host:port.")] = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels an image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write results to this .csv or .jsonl file.")] = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 10.0,
    in_flight: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Classify image files and folders with a served model.

    An image that cannot be read is a row with its error; the others go on, and the exit status is 1.
    """
    found = find_images(paths)
    first = next(found, None)
    if first is None:
        raise UsageError(f"no images in {', '.join(map(str, paths))}; name image files or folders that hold some")
    images, names = itertools.tee(itertools.chain([first], found))
    records: list[dict[str, Any]] = []
    count = errors = 0
    began = time.perf_counter()
    with ExitStack() as stack:
        client = stack.enter_context(Client(url, model=model, timeout_s=timeout_s))
        client.refresh()
        write = stack.enter_context(open_writer(out, top_k)) if out else records.append
        progress = stack.enter_context(_progress())
        task = progress.add_task(model, total=None)
        outcomes = client.classify_many(images, top_k=top_k, on_error="return", in_flight=in_flight)
        for name, outcome in zip(names, outcomes, strict=False):
            record = to_record(name, outcome)
            count += 1
            errors += record["error"] is not None
            write(record)
            progress.update(task, completed=count)
    seconds = time.perf_counter() - began
    if as_json:
        document = {"model": model, "images": count, "errors": errors, "seconds": round(seconds, 3)}
        print(json.dumps(document | ({} if out else {"results": records})))
        return 1 if errors else 0
    if records:
        print_table(records, Console(width=None if sys.stdout.isatty() else 160))
    rate = count / seconds if seconds else 0
    summary = f"{count:,} images, {errors:,} of them unreadable, {rate:,.0f} images/s"
    print(f"{summary}, in {out}" if out else summary)
    return 1 if errors else 0


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
