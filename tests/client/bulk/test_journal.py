from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tamiz import OutputError, UsageError
from tamiz.bulk.inputs import Input
from tamiz.bulk.journal import Journal

JOB = {"model": "grey", "inputs": ["images"], "top_k": 1}


def record(number: int) -> dict[str, object]:
    return {"path": f"\udcff{number}.png", "label": "x", "score": 0.5, "version": 1, "error": None}


def test_appended_results_are_read_back_in_order(tmp_path: Path) -> None:
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


def test_a_journal_truncated_at_any_byte_keeps_its_complete_lines_and_continues(tmp_path: Path) -> None:
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


def test_a_second_process_cannot_work_on_the_same_job(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.csv", JOB, resume=False) as journal:
        journal.append(record(0))
        with pytest.raises(OutputError, match="another process is working on this job"):
            Journal(tmp_path / "out.csv", JOB, resume=True)
        journal.append(record(1))
    with Journal(tmp_path / "out.csv", JOB, resume=True) as journal:
        assert journal.done == 2


def test_a_job_with_a_setting_that_the_journal_does_not_have_is_another_job(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.csv", JOB, resume=False) as journal:
        journal.append(record(0))
    with pytest.raises(UsageError, match="another job, with provenance null; delete the file"):
        Journal(tmp_path / "out.csv", {**JOB, "provenance": True}, resume=True)


def test_a_full_disk_is_an_output_error_and_written_results_remain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path / "out.csv", JOB, resume=False, sync_every_s=0) as journal:
        journal.append(record(0))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"out.csv.journal: cannot be written: No space left"):
            journal.append(record(1))
    monkeypatch.undo()
    with Journal(tmp_path / "out.csv", JOB, resume=True) as journal:
        assert journal.done >= 1


def test_an_existing_journal_is_not_overwritten(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.csv", JOB, resume=False):
        pass
    with pytest.raises(UsageError, match="unfinished job; continue it with --resume"):
        Journal(tmp_path / "out.csv", JOB, resume=False)
    with pytest.raises(UsageError, match="another job, with top_k 1;"):
        Journal(tmp_path / "out.csv", JOB | {"top_k": 2}, resume=True)


def test_a_file_that_is_not_a_journal_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "out.csv.journal").write_text("something else\n")
    with pytest.raises(UsageError, match="not a journal"):
        Journal(tmp_path / "out.csv", JOB, resume=True)


def test_inputs_with_a_result_are_skipped_and_changed_inputs_are_rejected(tmp_path: Path) -> None:
    inputs = [Input(f"{number}.png", f"{number}.png") for number in range(4)]
    with Journal(tmp_path / "out.csv", JOB, resume=False) as journal:
        for number in range(2):
            journal.append(record(number) | {"path": f"{number}.png"})
        assert list(journal.skip_done(iter(inputs))) == inputs[2:]
        with pytest.raises(UsageError, match=r"image 2 was 1\.png and is 3\.png now"):
            journal.skip_done(iter([inputs[0], inputs[3]]))
        with pytest.raises(UsageError, match=r"image 2 was 1\.png and is missing now"):
            journal.skip_done(iter(inputs[:1]))
