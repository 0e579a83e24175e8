from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tamiz import InvalidImageError, Prediction, Provenance, UsageError
from tamiz.bulk.recorded import read_records
from tamiz.bulk.results import to_record, write_records
from tamiz.prediction import Scored

SCORE, OTHER = float(np.float32(0.1)), float(np.float32(1e-30))
TOP = (Scored("cat, dog", SCORE), Scored("größe", OTHER))
PROVENANCE = Provenance("pets", 3, "ab", None, "grpc://a:1", datetime(2026, 1, 2, tzinfo=UTC))
SUFFIXES = [".csv", ".jsonl", ".parquet"]


def prediction(top: tuple[Scored, ...] = TOP, labels: tuple[Scored, ...] = ()) -> Prediction:
    return Prediction(top[0].label, top[0].score, 0, top, labels, 3, "pets", provenance=PROVENANCE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read_back_to_the_bit(suffix: str, tmp_path: Path) -> None:
    outcomes = [("a.png", prediction()), ("\udcff.png", prediction()), ("b.png", InvalidImageError("no"))]
    records = [to_record(name, outcome, provenance=True) for name, outcome in outcomes]
    write_records(tmp_path / f"out{suffix}", records, top_k=2, multilabel=False, provenance=True)
    assert list(read_records(tmp_path / f"out{suffix}")) == records


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("labels", [(), TOP])
def test_the_labels_of_a_multilabel_model_are_read_back(
    suffix: str, labels: tuple[Scored, ...], tmp_path: Path
) -> None:
    record = to_record("a.png", prediction(TOP[:1], labels), multilabel=True)
    write_records(tmp_path / f"out{suffix}", [record], top_k=1, multilabel=True)
    (read,) = read_records(tmp_path / f"out{suffix}")
    expected = "|".join(scored.label for scored in labels) if suffix == ".csv" else record["labels"]
    assert read == record | {"labels": expected}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"path,label\na,b\n", "row 1: no column score, version, error"),
        ("a.csv", b"path,label,score,version,error\na,b,high,1,\n", "row 1: could not convert"),
        ("a.csv", b"path,label,score,version,error\na,b,0.5,1,\n\xff,b,0.5,1,\n", "can't decode"),
        ("a.jsonl", b"[]\n", "row 1: it is no JSON object"),
        ("a.jsonl", b'{"path": "a", "label": "b", "score": 1, "version": 1, "error": null}\n{', "row 2: "),
        ("a.jsonl", b'{"path": 5, "error": null}\n', "row 1: path is no text"),
        ("a.jsonl", b'{"path": "a", "error": null}\n', "row 1: 'label'"),
        ("a.jsonl", b"[" * 100_000, "row 1: "),
        ("a.parquet", b"PAR1", "row 1: "),
        ("a.txt", b"", "unsupported format"),
    ],
)
def test_a_file_that_holds_no_results_is_refused(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        list(read_records(tmp_path / name))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_a_usage_error(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"none{suffix}: No such file"):
        list(read_records(tmp_path / f"none{suffix}"))
