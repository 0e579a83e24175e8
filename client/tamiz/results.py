"""Results: predictions beside the names of their images, as a table, JSON, CSV or JSON lines.

`tamiz classify` (served) and `tamiz predict` (a run) write the same form, so that one can be held against the
other with any tool that compares files.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import UsageError
from .prediction import Prediction
from .preprocessing import SUFFIXES

COLUMNS = ("path", "label", "score", "version", "error")


def find_images(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and all image files in the folders named, each folder's in the order of their names.

    Raises:
        UsageError: a path is not there; before anything is yielded.
    """
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as exc:
            reason = "no such file or folder" if isinstance(exc, FileNotFoundError) else str(exc)
            raise UsageError(f"{path}: {reason}") from exc

    def walk() -> Iterator[Path]:
        for path in paths:
            if path.is_dir():
                yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            else:
                yield path

    return walk()


def to_record(path: Path, outcome: Prediction | Exception) -> dict[str, Any]:
    """One result: the keys of `COLUMNS`, ``top`` where more than one label was asked for, ``labels`` for multilabel."""
    if isinstance(outcome, Exception):
        return {"path": str(path), "label": None, "score": None, "version": None, "error": str(outcome)}
    record: dict[str, Any] = {
        "path": str(path),
        "label": outcome.label,
        "score": outcome.score,
        "version": outcome.version,
        "error": None,
    }
    if len(outcome.top) > 1:
        record["top"] = [scored._asdict() for scored in outcome.top]
    if outcome.labels:
        record["labels"] = [scored._asdict() for scored in outcome.labels]
    return record


@contextmanager
def open_writer(path: Path, top_k: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one record to a file, which appears when all are written.

    Args:
        path: ``.csv`` or ``.jsonl``.
        top_k: how many labels a record may hold; a CSV file has two columns for each beyond the first.

    Raises:
        UsageError: another kind of file, or a folder that cannot be written.
    """
    if path.suffix not in {".csv", ".jsonl"}:
        raise UsageError(f"--out {path}: write a .csv or a .jsonl file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as exc:
        raise UsageError(f"--out {path}: {exc.strerror}") from exc
    staged = Path(name)
    try:
        # A file name need not be UTF-8; it is written as it is.
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield _csv_writer(file, top_k) if path.suffix == ".csv" else _jsonl_writer(file)
        # mkstemp makes a private file; this one is meant to be read.
        staged.chmod(0o644)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def print_table(records: Sequence[dict[str, Any]], console: Console) -> None:
    """The records as a table for a person."""
    table = Table("path", "label", "score", "version")
    for record in records:
        path = Text(os.fsencode(record["path"]).decode(errors="replace"))
        if record["error"] is not None:
            table.add_row(path, Text(record["error"], style="red"), "", "")
            continue
        scored = record.get("labels") or record.get("top") or [record]
        table.add_row(
            path,
            Text("\n".join(item["label"] for item in scored)),
            "\n".join(f"{item['score']:.4f}" for item in scored),
            str(record["version"]),
        )
    console.print(table)


def _csv_writer(file: TextIO, top_k: int) -> Callable[[dict[str, Any]], None]:
    writer = csv.writer(file)
    ranks = range(2, top_k + 1)
    width = len(COLUMNS) + 2 * len(ranks)
    writer.writerow([*COLUMNS, *(f"{column}_{rank}" for rank in ranks for column in ("label", "score"))])

    def write(record: dict[str, Any]) -> None:
        rest = [value for scored in record.get("top", ())[1:] for value in scored.values()]
        row = [*(record[column] for column in COLUMNS), *rest]
        writer.writerow(row + [None] * (width - len(row)))

    return write


def _jsonl_writer(file: TextIO) -> Callable[[dict[str, Any]], None]:
    def write(record: dict[str, Any]) -> None:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write
