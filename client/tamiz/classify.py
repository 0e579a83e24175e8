"""``tamiz classify``: files, folders, tar files and lists through a served model; a few images, or millions."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .client import Client
from .engine.classification import Outcome
from .errors import InvalidImageError, UsageError
from .inputs import Input, count_inputs, find_inputs
from .journal import Journal, journal_of
from .preprocessing import ImageSource
from .results import UNREADABLE, Record, check_output, print_table, to_record, write_records
from .transports import DEFAULT_URL, Tls

_LINE_EVERY_S = 10.0


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, 'patterns*', tar files, lists (.csv with a column path, .txt), whose paths are "
            "relative to the list's folder."
        ),
    ],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    url: Annotated[str, typer.Option(help="The server, or several: grpc://host:port,host:port.")] = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(min=1, help="How many labels an image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write results to a .csv, .jsonl or .parquet file.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the job of --out that was interrupted.")] = False,
    timeout_s: Annotated[float, typer.Option(help="Seconds that a request may take, retries included.")] = 60.0,
    in_flight: Annotated[int | None, typer.Option(min=1, help="Requests under way at once; else it adapts.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="Header of every call, name=value; repeatable.")] = None,
    ca: Annotated[Path | None, typer.Option(help="Authority of the server's certificate (PEM).")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The client's own certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of --certificate (PEM).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Classify images with a served model.

    An image that cannot be read is a row with its error; the others go on, and the exit status is 3. With --out,
    results are kept as they come, and --resume goes on after an interruption with no row lost or doubled.
    """
    if out is None and resume:
        raise UsageError("--resume goes on with the job of an output file; name it by --out")
    if out is not None:
        check_output(out)
        if resume and out.exists() and not journal_of(out).exists():
            print(f"{out} is complete: nothing to resume; without --resume it is made again", file=sys.stderr)
            return 0
    inputs = find_inputs(paths)
    tls = Tls(ca, certificate, key) if ca or certificate or key else None
    records: list[Record] = []
    began = time.perf_counter()
    with ExitStack() as stack:
        client = stack.enter_context(Client(url, model=model, timeout_s=timeout_s, headers=_headers(header), tls=tls))
        multilabel = client.spec.task == "multilabel"
        journal = None
        if out is not None:
            job = {"model": model, "inputs": paths, "top_k": top_k, "multilabel": multilabel}
            journal = stack.enter_context(Journal(out, job, resume=resume))
        keep = journal.append if journal else records.append
        progress = stack.enter_context(_Progress(model, paths, journal))
        left = _left(inputs, journal)
        for name, outcome in _classify(client, left, top_k=top_k, in_flight=in_flight):
            record = to_record(name, outcome, multilabel=multilabel)
            keep(record)
            progress.count(record)
        if journal is not None and out is not None:
            write_records(out, journal.records(), top_k=top_k, multilabel=multilabel)
            journal.remove()
    seconds = time.perf_counter() - began
    images, errors = progress.images, progress.errors
    if as_json:
        document = {"model": model, "images": images, "errors": errors, "seconds": round(seconds, 3)}
        print(json.dumps(document | ({} if out else {"results": records})))
        return UNREADABLE if errors else 0
    if records:
        print_table(records, Console(width=None if sys.stdout.isatty() else 160))
    summary = f"{images:,} images, {errors:,} of them unreadable, {progress.images_now / seconds:,.0f} images/s"
    print(f"{summary}, in {out}" if out else summary)
    return UNREADABLE if errors else 0


def _headers(given: Sequence[str] | None) -> dict[str, str]:
    headers = {}
    for text in given or ():
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise UsageError(f"--header {text}: write name=value")
        headers[name] = value
    return headers


def _left(inputs: Iterator[Input], journal: Journal | None) -> Iterator[Input]:
    """The inputs after those that an interrupted job has done."""
    if journal is None:
        return inputs
    for number, record in enumerate(journal.records(), 1):
        found = next(inputs, None)
        if found is None or found.name != record["path"]:
            now = found.name if found else "missing"
            raise UsageError(
                f"{journal.path}: image {number:,} was {record['path']} and is {now} now; "
                "the inputs have changed: put them back, or delete the journal to begin again"
            )
    return inputs


def _classify(
    client: Client, inputs: Iterator[Input], *, top_k: int, in_flight: int | None
) -> Iterator[tuple[str, Outcome]]:
    """The outcomes beside the names of their images, in the order of the inputs."""
    taken: deque[tuple[str, InvalidImageError | None]] = deque()

    def sources() -> Iterator[ImageSource]:
        for name, source in inputs:
            if isinstance(source, InvalidImageError):
                taken.append((name, source))
            else:
                taken.append((name, None))
                yield source

    def faults() -> Iterator[tuple[str, InvalidImageError]]:
        while taken and (fault := taken[0][1]) is not None:
            yield taken.popleft()[0], fault

    for outcome in client.classify_many(sources(), top_k=top_k, on_error="return", in_flight=in_flight):
        yield from faults()
        yield taken.popleft()[0], outcome
    yield from faults()


class _Progress:
    """A bar on a terminal, a line now and then elsewhere; and what to do when the job is interrupted."""

    def __init__(self, model: str, paths: list[str], journal: Journal | None) -> None:
        self.images = journal.done if journal else 0
        self.errors = journal.errors if journal else 0
        self.images_now = 0
        self._journal = journal
        self._told = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} images/s, {task.fields[errors]:,} errors,"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        total = None if self._bar.disable else count_inputs(paths)
        self._task = self._bar.add_task(model, total=total, completed=self.images, rate=0.0, errors=self.errors)
        self._began = time.monotonic()

    def count(self, record: Record) -> None:
        """One image more is done."""
        self.images += 1
        self.images_now += 1
        self.errors += record["error"] is not None
        now = time.monotonic()
        rate = self.images_now / max(now - self._began, 1e-9)
        if not self._bar.disable:
            self._bar.update(self._task, completed=self.images, rate=rate, errors=self.errors)
        elif now - self._told > _LINE_EVERY_S:
            self._told = now
            print(f"{self.images:,} images, {rate:,.0f} images/s, {self.errors:,} errors", file=sys.stderr)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        self._bar.stop()
        if exc is not None and self._journal is not None and self._journal.done:
            done, path = self._journal.done, self._journal.path
            print(f"{done:,} results are kept in {path}; --resume goes on from there", file=sys.stderr)
