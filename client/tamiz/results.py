"""Results: predictions beside the names of their images, as a table, CSV, JSON lines or Parquet.

`tamiz classify` (served) and `tamiz predict` (a run) write the same form, so that one can be held against the
other with any tool that compares files.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import MissingExtraError, UsageError
from .files import check_writable, staged
from .prediction import Prediction

COLUMNS = ("path", "label", "score", "version", "error")
Record: TypeAlias = dict[str, Any]
"""One result: the keys of `COLUMNS`, ``top`` where more than one label was asked for, ``labels`` for multilabel."""

UNREADABLE = 3
"""Exit status of a command that did all of its work, but for images that cannot be read."""

_SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROW_GROUP = 16_384


def to_record(name: str | os.PathLike[str], outcome: Prediction | Exception, *, multilabel: bool = False) -> Record:
    """One result."""
    path = os.fspath(name)
    if isinstance(outcome, Exception):
        return {"path": path, "label": None, "score": None, "version": None, "error": _utf8(str(outcome))}
    record: Record = {
        "path": path,
        "label": outcome.label,
        "score": outcome.score,
        "version": outcome.version,
        "error": None,
    }
    if len(outcome.top) > 1:
        record["top"] = [scored._asdict() for scored in outcome.top]
    if multilabel:
        record["labels"] = [scored._asdict() for scored in outcome.labels]
    return record


def check_output(path: Path) -> None:
    """Refuse a file that could not be written, before the work that it is to hold.

    Raises:
        UsageError: another kind of file, or a folder that cannot be written.
        MissingExtraError: it is a Parquet file, and the extra ``parquet`` is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"--out {path}: write a .csv, a .jsonl or a .parquet file")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("parquet", "pyarrow")
    check_writable(path)


def write_records(path: Path, records: Iterable[Record], *, top_k: int, multilabel: bool) -> None:
    """Write results to a file, which appears when all are written; memory does not grow with their number.

    Args:
        path: ``.csv``, where several labels share a field, joined by bars, and ``top`` has two columns for each label
            beyond the first; ``.jsonl``; or ``.parquet``.
        records: in the order of their images.
        top_k: how many labels ``top`` holds.
        multilabel: whether there are ``labels``.

    Raises:
        UsageError: the file cannot be written.
    """
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix]
    with staged(path) as part:
        write(part, records, top_k, multilabel)


def _utf8(text: str) -> str:
    """Text that may hold a file name that is not UTF-8, as text that can be shown."""
    return os.fsencode(text).decode(errors="replace")


def print_table(records: Sequence[Record], console: Console) -> None:
    """The records as a table for a person."""
    table = Table("path", "label", "score", "version")
    for record in records:
        path = Text(_utf8(record["path"]))
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


def _write_csv(path: Path, records: Iterable[Record], top_k: int, multilabel: bool) -> None:
    ranks = range(2, top_k + 1)
    header = [*COLUMNS, *(f"{column}_{rank}" for rank in ranks for column in ("label", "score"))]
    # A file name need not be UTF-8; it is written as it is.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header + ["labels"] * multilabel)
        for record in records:
            rest = [value for scored in record.get("top", ())[1:] for value in scored.values()]
            row = [*(record[column] for column in COLUMNS), *rest]
            row += [None] * (len(header) - len(row))
            labels = "|".join(scored["label"] for scored in record.get("labels", ()))
            writer.writerow(row + [labels] * multilabel)


def _write_jsonl(path: Path, records: Iterable[Record], top_k: int, multilabel: bool) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _write_parquet(path: Path, records: Iterable[Record], top_k: int, multilabel: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    scored = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    fields = [
        ("path", pa.string()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("version", pa.int64()),
        ("error", pa.string()),
    ]
    schema = pa.schema(fields + [("top", scored)] * (top_k > 1) + [("labels", scored)] * multilabel)
    with pq.ParquetWriter(path, schema) as writer:
        batch: list[Record] = []
        for record in records:
            # Parquet's strings are UTF-8 and a file name need not be.
            batch.append(record | {"path": _utf8(record["path"])})
            if len(batch) == _ROW_GROUP:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))
