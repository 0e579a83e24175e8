"""Results: predictions with the names of their images, as a table, CSV, JSON lines or Parquet.

`tamiz classify` (a served model) and `tamiz predict` (a run) write the same format, so that any tool that compares
files can compare the two.
"""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rich.text import Text

from ..console import print_table, printable_line
from ..errors import MissingExtraError, UsageError
from ..files import check_writable, staged
from ..json_text import to_json
from ..path_text import path_to_text
from ..prediction import Prediction

COLUMNS = ("path", "label", "score", "version", "error")
PROVENANCE_COLUMNS = ("model", "onnx_sha256", "spec_sha256", "url", "time")
"""Columns with the provenance of each prediction, where it was requested; the version is among `COLUMNS`."""

Record: TypeAlias = dict[str, Any]
"""One result: the keys of `COLUMNS`, those of `PROVENANCE_COLUMNS` when requested, ``top`` when several labels were
requested, ``labels`` for a multilabel model."""

_SUFFIXES = (".csv", ".jsonl", ".parquet")
_ROW_GROUP = 16_384


def to_record(
    name: str | os.PathLike[str],
    outcome: Prediction | Exception,
    *,
    multilabel: bool = False,
    provenance: bool = False,
) -> Record:
    """Make the record of one image from its prediction or its error."""
    path = os.fspath(name)
    if isinstance(outcome, Exception):
        error = printable_line(str(outcome))
        failed: Record = {"path": path, "label": None, "score": None, "version": None, "error": error}
        return failed | dict.fromkeys(PROVENANCE_COLUMNS if provenance else ())
    record: Record = {
        "path": path,
        "label": outcome.label,
        "score": outcome.score,
        "version": outcome.version,
        "error": None,
    }
    if provenance and (origin := outcome.provenance) is not None:
        hashes = {"onnx_sha256": origin.onnx_sha256, "spec_sha256": origin.spec_sha256}
        record |= {"model": origin.model, **hashes, "url": origin.url, "time": origin.time.isoformat()}
    if len(outcome.top) > 1:
        record["top"] = [scored._asdict() for scored in outcome.top]
    if multilabel:
        record["labels"] = [scored._asdict() for scored in outcome.labels]
    return record


def print_records(records: Sequence[Record]) -> None:
    """Print records as a table."""
    print_table(("path", "label", "score", "version"), map(_table_row, records))


def check_output(path: Path) -> None:
    """Check that an output file can be written, before the work that produces its content starts.

    Raises:
        UsageError: the suffix is not that of a supported format.
        OutputError: the file cannot be written, or another process is writing it.
        MissingExtraError: the file is a Parquet file, and the extra ``parquet`` is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"--out {path}: unsupported format; write a .csv, .jsonl or .parquet file")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("parquet", "pyarrow")
    check_writable(path)


def write_records(
    path: Path, records: Iterable[Record], *, top_k: int, multilabel: bool, provenance: bool = False
) -> None:
    """Write records to a file, completely or not at all; memory use does not grow with their number.

    Args:
        path: the output file. In a ``.csv`` file, ``labels`` is one field, joined by ``|``, and each label of ``top``
            after the first has two columns. ``.jsonl`` and ``.parquet`` files hold both as lists.
        records: records in the order of their images; paths are written in the form of `tamiz.path_text`.
        top_k: number of labels in ``top``.
        multilabel: whether the records have ``labels``.
        provenance: whether the records have the keys of `PROVENANCE_COLUMNS`.

    Raises:
        OutputError: the file cannot be written, or another process is writing it.
    """
    write = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}[path.suffix]
    rows = (record | {"path": path_to_text(record["path"])} for record in records)
    columns = COLUMNS + PROVENANCE_COLUMNS * provenance
    with staged(path) as temporary:
        write(temporary, rows, columns, top_k, multilabel)


def _table_row(record: Record) -> tuple[object, ...]:
    path = record["path"]
    if record["error"] is not None:
        return path, Text(record["error"], style="red"), "", ""
    # A multi-label model may predict no label, and the most probable one would be misread as predicted.
    scored = record["labels"] if "labels" in record else record.get("top") or [record]
    if not scored:
        return path, Text("none", style="dim"), "", record["version"]
    labels = "\n".join(printable_line(item["label"]) for item in scored)
    scores = "\n".join(f"{item['score']:.4f}" for item in scored)
    return path, Text(labels), Text(scores), record["version"]


def _write_csv(path: Path, records: Iterable[Record], columns: Sequence[str], top_k: int, multilabel: bool) -> None:
    ranks = range(2, top_k + 1)
    header = [*columns, *(f"{column}_{rank}" for rank in ranks for column in ("label", "score"))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header + ["labels"] * multilabel)
        for record in records:
            further = [value for scored in record.get("top", ())[1:] for value in scored.values()]
            row = [*(record[column] for column in columns), *further]
            row += [None] * (len(header) - len(row))
            labels = "|".join(scored["label"] for scored in record.get("labels", ()))
            writer.writerow(row + [labels] * multilabel)


def _write_jsonl(path: Path, records: Iterable[Record], columns: Sequence[str], top_k: int, multilabel: bool) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_json(record, ensure_ascii=False) + "\n" for record in records)


def _write_parquet(path: Path, records: Iterable[Record], columns: Sequence[str], top_k: int, multilabel: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    scored = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    types = {"score": pa.float32(), "version": pa.int64()}
    fields = [(column, types.get(column, pa.string())) for column in columns]
    schema = pa.schema(fields + [("top", scored)] * (top_k > 1) + [("labels", scored)] * multilabel)
    with pq.ParquetWriter(path, schema) as writer:
        for group in _groups(records, _ROW_GROUP):
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema))


def _groups(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        group.append(record)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
