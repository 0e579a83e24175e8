from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fleet import until
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


def test_children_of_a_process_that_has_ended_are_killed_at_once(tmp_path: Path) -> None:
    process = ServerProcess(["sh", "-c", "sleep 1000 & echo $!"], os.environ, tmp_path / "log")
    process.start()
    assert process.wait(20) == 0
    assert have_ended([int((tmp_path / "log").read_text())])


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill])
def test_a_process_that_has_ended_is_not_signalled_since_another_one_may_have_its_number(
    end: Callable[[ServerProcess], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = ServerProcess(["true"], os.environ, tmp_path / "log")
    process.start()
    process.wait()
    signalled: list[int] = []
    for name in ("kill", "killpg"):
        monkeypatch.setattr(os, name, lambda pid, number: signalled.append(pid))
    end(process)
    assert not signalled


def test_a_process_that_ignores_termination_is_killed_after_the_given_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = ServerProcess(["sh", "-c", "trap '' TERM; echo ready; sleep 1000"], os.environ, log)
    process.start()
    until(lambda: log.read_text() == "ready\n")
    process.stop(kill_after_s=0.2)
    assert process.wait(0) == -signal.SIGKILL


def test_a_log_is_overwritten_or_continued(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for text, append in [("first", False), ("second", False), ("third", True)]:
        process = ServerProcess(["echo", text], os.environ, log, append=append)
        process.start()
        process.wait()
    assert log.read_text() == "second\nthird\n"
