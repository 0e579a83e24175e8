from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tamiz.errors import UsageError
from tamiz.files import check_writable, staged, write_whole


def test_a_file_takes_the_place_of_the_one_before_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "before")

    def write_half(part: Path) -> None:
        part.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), staged(path) as part:
        write_half(part)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    code = (
        "import os, pathlib, signal, sys; from tamiz.files import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_text('a long half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_two_cannot_write_a_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with staged(path) as part:
        part.write_text("first")
        with pytest.raises(UsageError, match=r"metrics\.json: another process is writing it"):
            write_whole(path, "second")
    assert path.read_text() == "first"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/metrics\.json: cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "metrics.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder: cannot be written: Is a directory"):
        check_writable(tmp_path / "folder")
    check_writable(tmp_path / "new.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
