from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamiz import InvalidImageError, OutputError, Prediction, UsageError
from tamiz.bulk.results import check_output, print_records, to_record, write_records
from tamiz.path_text import text_to_path
from tamiz.prediction import Scored

TOP = (Scored("cat", 0.75), Scored("dog", 0.25))


def prediction(**changes: object) -> Prediction:
    values = {"label": "cat", "score": 0.75, "index": 0, "top": TOP, "labels": (), "version": 3, "model": "pets"}
    return Prediction(**(values | changes))


def test_a_prediction_becomes_a_record_with_its_top_labels() -> None:
    record = to_record(Path("a.png"), prediction())
    assert record == {
        "path": "a.png",
        "label": "cat",
        "score": 0.75,
        "version": 3,
        "error": None,
        "top": [{"label": "cat", "score": 0.75}, {"label": "dog", "score": 0.25}],
    }
    assert "top" not in to_record("a.png", prediction(top=TOP[:1]))
    assert to_record("a.png", prediction(labels=TOP[:1]), multilabel=True)["labels"] == [
        {"label": "cat", "score": 0.75}
    ]


def test_an_error_becomes_a_record_without_a_label() -> None:
    record = to_record("a.png", InvalidImageError("a.png: empty"))
    assert record == {"path": "a.png", "label": None, "score": None, "version": None, "error": "a.png: empty"}


def test_the_table_shows_no_label_where_a_multilabel_model_predicts_none(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"path": "im.png", "label": "cat", "score": 0.2, "version": 3, "error": None}
    print_records([{**record, "labels": [], "top": [{"label": "cat", "score": 0.2}, {"label": "dog", "score": 0.1}]}])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "im.png" in line]
    assert "none" in row
    assert "cat" not in row
    assert "0.2" not in row


def test_a_csv_row_with_an_error_has_as_many_fields_as_the_header(tmp_path: Path) -> None:
    records = [to_record("a.png", prediction(labels=TOP), multilabel=True), to_record("b.png", InvalidImageError("no"))]
    write_records(tmp_path / "out.csv", records, top_k=2, multilabel=True)
    header, first, second = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header == ["path", "label", "score", "version", "error", "label_2", "score_2", "labels"]
    assert first == ["a.png", "cat", "0.75", "3", "", "dog", "0.25", "cat|dog"]
    assert second == ["b.png", "", "", "", "no", "", "", ""]


def test_a_json_line_is_a_record(tmp_path: Path) -> None:
    record = to_record("größer.png", prediction())
    write_records(tmp_path / "out.jsonl", [record] * 2, top_k=2, multilabel=False)
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [record] * 2


NAMES = [os.fsdecode(b"caf\xe9.png"), "café.png", "file:x.png", 'a,"b".png', "line\nbreak.png"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_text_for_a_path_from_which_the_path_comes_back(
    suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / f"out{suffix}"
    write_records(out, [to_record(name, InvalidImageError("x")) for name in NAMES], top_k=1, multilabel=False)
    if suffix == ".parquet":
        texts = pq.read_table(out)["path"].to_pylist()
    elif suffix == ".jsonl":
        texts = [json.loads(line)["path"] for line in out.read_text().splitlines()]
    else:
        with out.open(newline="", encoding="utf-8") as file:
            texts = [row["path"] for row in csv.DictReader(file)]
    assert texts[:2] == ["file:caf%E9.png", "café.png"]
    assert list(map(text_to_path, texts)) == NAMES


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_full_disk_is_an_output_error_and_leaves_no_file(suffix: str, tmp_path: Path) -> None:
    def records() -> object:
        yield to_record("a.png", prediction(top=TOP[:1]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match=f"out{suffix}: cannot be written: No space left"):
        write_records(tmp_path / f"out{suffix}", records(), top_k=1, multilabel=False)
    assert not list(tmp_path.iterdir())


def test_a_file_of_an_unsupported_format_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.txt: unsupported format"):
        check_output(tmp_path / "out.txt")
    with pytest.raises(OutputError, match="No such file or directory"):
        check_output(tmp_path / "none" / "out.csv")
