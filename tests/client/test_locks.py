from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tamiz.locks import lock, open_locked


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_holder_does_not_get_the_lock_until_the_first_closes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else path.touch()
    first = open_locked(path)
    assert first is not None
    assert open_locked(path) is None
    os.close(first)
    second = open_locked(path, wait=True)
    assert second is not None
    os.close(second)


def test_the_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    code = (
        "import pathlib, sys, time; from tamiz.locks import open_locked\n"
        "open_locked(pathlib.Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"locked\n"
        assert open_locked(path) is None
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    descriptor = open_locked(path)
    assert descriptor is not None
    os.close(descriptor)


def test_an_open_file_is_locked_through_its_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        assert lock(file.fileno())
        assert open_locked(tmp_path / "file") is None
