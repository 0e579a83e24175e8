from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tamiz import OutputError
from tamiz.files import check_writable, sha256, staged, write_whole


def test_a_written_file_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_whole(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_usual_permissions_even_if_a_library_created_it(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with staged(tmp_path / "file") as temporary:
        # As safetensors does.
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_block_that_raises_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "before")

    def write_half(temporary: Path) -> None:
        temporary.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), staged(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_file_of_a_killed_process_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    code = (
        "import os, pathlib, signal, sys; from tamiz.files import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('a long half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_writer_of_a_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with staged(path) as temporary:
        temporary.write_text("first")
        with pytest.raises(OutputError, match=r"metrics\.json: another process is writing it"):
            write_whole(path, "second")
    assert path.read_text() == "first"


def test_a_path_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/metrics\.json: cannot be written: Not a directory"):
        check_writable(tmp_path / "file" / "metrics.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: cannot be written: Is a directory"):
        check_writable(tmp_path / "folder")
    check_writable(tmp_path / "new.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_checksum_of_a_file_is_its_sha_256_in_hexadecimal(tmp_path: Path) -> None:
    content = b"\x00" * 1_000_000 + b"end"
    (tmp_path / "model.onnx").write_bytes(content)
    assert sha256(tmp_path / "model.onnx") == hashlib.sha256(content).hexdigest()
