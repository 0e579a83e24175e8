"""Recorded results: reading the files that `tamiz.bulk.results` writes, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..arguments import show_path
from ..errors import MissingExtraError, UsageError, one_line, os_reason
from ..path_text import text_to_path
from .results import COLUMNS, PROVENANCE_COLUMNS, Record


def read_records(path: Path) -> Iterator[Record]:
    """Read the records of a file; memory use does not grow with their number.

    Args:
        path: a ``.csv``, ``.jsonl`` or ``.parquet`` file that `tamiz.bulk.results.write_records` wrote.

    Yields:
        the records as they were written. In a ``.csv`` file, ``labels`` is one text, joined by ``|``.

    Raises:
        UsageError: there is no such file, or it does not hold results; the message names the row.
        MissingExtraError: the file is a Parquet file, and the extra ``parquet`` is not installed.
    """
    readers: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    if path.suffix not in readers:
        raise UsageError(
            f"{show_path(path)}: unsupported format; give a .csv, .jsonl or .parquet file of `tamiz classify`"
        )
    done = 0
    try:
        for row in readers[path.suffix](path):
            record = _to_record(row)
            done += 1
            yield record
    except (UsageError, MissingExtraError):
        raise
    except OSError as exc:
        raise UsageError(f"{path}: {os_reason(exc)}") from exc
    except Exception as exc:
        # Each format has errors of its own, and pyarrow a class for each way in which a file can be wrong.
        raise UsageError(f"{path}: not results of `tamiz classify`: row {done + 1:,}: {one_line(exc)}") from exc


def _read_csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
            raise ValueError(f"no column {', '.join(missing)}")
        ranks = [name.removeprefix("label_") for name in rows.fieldnames or () if name.startswith("label_")]
        for row in rows:
            record: dict[str, Any] = {name: value or None for name, value in row.items()}
            if ranks and record["error"] is None:
                further = ((record[f"label_{rank}"], record[f"score_{rank}"]) for rank in ranks)
                pairs = [(record["label"], record["score"]), *further]
                record["top"] = [{"label": label, "score": float(score)} for label, score in pairs if label is not None]
            if "labels" in row:
                # A multilabel model may predict no label.
                record["labels"] = row["labels"]
            yield record


def _read_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("it is no JSON object")
            yield row


def _read_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise MissingExtraError("parquet", "pyarrow") from exc
    # Opened here, because pyarrow's message about a file that cannot be opened repeats its path.
    with path.open("rb") as opened, pq.ParquetFile(opened) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def _to_record(row: Mapping[str, Any]) -> Record:
    """Check a row, and give its values their types.

    Raises:
        ValueError, LookupError, TypeError: the row is not a result.
    """
    record: Record = {"path": text_to_path(_text(row, "path")), "error": row["error"]}
    predicted = row["error"] is None
    record["label"] = _text(row, "label") if predicted else None
    record["score"] = float(row["score"]) if predicted else None
    record["version"] = int(row["version"]) if predicted else None
    for name in PROVENANCE_COLUMNS:
        if name in row:
            record[name] = None if row[name] is None else _text(row, name)
    if predicted and row.get("top"):
        record["top"] = [{"label": _text(item, "label"), "score": float(item["score"])} for item in row["top"]]
    if predicted and row.get("labels") is not None:
        labels = row["labels"]
        record["labels"] = labels if isinstance(labels, str) else [dict(item) for item in labels]
    return record


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    return value
