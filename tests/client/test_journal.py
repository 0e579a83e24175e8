from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tamiz.errors import UsageError
from tamiz.journal import Journal

JOB = {"model": "grey", "inputs": ["images"], "top_k": 1}


def record(number: int) -> dict[str, object]:
    return {"path": f"\udcff{number}.png", "label": "x", "score": 0.5, "version": 1, "error": None}


def test_what_was_added_is_there_for_the_next_one_in_order(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with Journal(out, JOB, resume=False) as journal:
        for number in range(5):
            journal.append(record(number))
    with Journal(out, JOB, resume=True) as journal:
        assert (journal.done, journal.errors) == (5, 0)
        journal.append(record(5) | {"error": "broken"})
        assert list(journal.records())[4:] == [record(4), record(5) | {"error": "broken"}]
        assert journal.errors == 1
        journal.remove()
    assert not list(tmp_path.iterdir())


def test_a_journal_cut_off_at_any_byte_gives_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with Journal(out, JOB, resume=False) as journal:
        for number in range(3):
            journal.append(record(number))
    path = tmp_path / "out.csv.journal"
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with Journal(out, JOB, resume=True) as journal:
            done = journal.done
            assert done == max(0, content[:end].count(b"\n") - 1)
            for number in range(done, 3):
                journal.append(record(number))
        assert path.read_bytes() == content


def test_two_processes_cannot_be_at_one_job(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.csv", JOB, resume=False) as journal:
        journal.append(record(0))
        with pytest.raises(UsageError, match="another process is at this job"):
            Journal(tmp_path / "out.csv", JOB, resume=True)
        journal.append(record(1))
    with Journal(tmp_path / "out.csv", JOB, resume=True) as journal:
        assert journal.done == 2


def test_a_full_disk_is_one_line_and_what_was_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tamiz.journal._SYNC_EVERY_S", 0)
    with Journal(tmp_path / "out.csv", JOB, resume=False) as journal:
        journal.append(record(0))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UsageError, match=r"out.csv.journal: No space left"):
            journal.append(record(1))
    monkeypatch.undo()
    with Journal(tmp_path / "out.csv", JOB, resume=True) as journal:
        assert journal.done >= 1


def test_a_journal_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    Journal(tmp_path / "out.csv", JOB, resume=False).__exit__(None, None, None)
    with pytest.raises(UsageError, match="unfinished job; go on with it by --resume"):
        Journal(tmp_path / "out.csv", JOB, resume=False)
    with pytest.raises(UsageError, match="another job, with top_k 1;"):
        Journal(tmp_path / "out.csv", JOB | {"top_k": 2}, resume=True)


def test_what_is_not_a_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / "out.csv.journal").write_text("something else\n")
    with pytest.raises(UsageError, match="not a journal"):
        Journal(tmp_path / "out.csv", JOB, resume=True)
