from __future__ import annotations

import os
from pathlib import Path

import psutil
from leftovers import have_ended

from tamiz_server.process import ServerProcess


def test_waiting_ends_with_the_exit_status_or_after_the_given_time(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = ServerProcess(["sh", "-c", f"read line < {pipe}; exit 3"], os.environ, tmp_path / "log")
    process.start()
    assert process.wait(0.05) is None
    pipe.write_text("line\n")
    assert process.wait(20) == 3


def test_children_of_a_process_that_has_ended_are_killed(tmp_path: Path) -> None:
    process = ServerProcess(["sh", "-c", "sleep 1000 & echo $!"], os.environ, tmp_path / "log")
    process.start()
    assert process.wait(20) == 0
    child = int((tmp_path / "log").read_text())
    assert psutil.pid_exists(child)
    process.kill()
    assert have_ended([child])


def test_a_log_is_overwritten_or_continued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text, append in [("first", False), ("second", False), ("third", True)]:
        process = ServerProcess(["echo", text], os.environ, log, append=append)
        process.start()
        process.wait()
    assert log.read_text() == "second\nthird\n"
