from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from tamiz import TritonError
from tamiz_server.control import Control
from tamiz_server.supervisor import WINDOW_S, RestartLimit, Supervisor


class ScriptedProcess:
    """A process that runs until it is given an exit status."""

    def __init__(self, status: int | None = None) -> None:
        self.pid = os.getpid()
        self._status = status
        self._ended = threading.Event()
        if status is not None:
            self._ended.set()

    def wait(self, timeout_s: float | None = None) -> int | None:
        return self._status if self._ended.wait(timeout_s) else None

    def end(self, status: int) -> None:
        self._status = status
        self._ended.set()


def supervise(
    first: ScriptedProcess,
    restart: Callable[[], ScriptedProcess],
    *,
    restarts: int = 5,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Supervisor, list[str]]:
    lines: list[str] = []

    def connect() -> Control:
        raise AssertionError("no instance died")

    supervisor = Supervisor(
        first,
        restart=restart,
        connect=connect,
        last_words=lambda: "last line",
        on_progress=on_progress or lines.append,
        limit=RestartLimit(restarts),
    )
    supervisor.start()
    return supervisor, lines


def test_restarts_are_allowed_again_when_earlier_ones_are_ten_minutes_old() -> None:
    now = [0.0]
    limit = RestartLimit(2, clock=lambda: now[0])
    assert [limit.allows(), limit.allows(), limit.allows()] == [True, True, False]
    now[0] = WINDOW_S - 1
    assert not limit.allows()
    now[0] = WINDOW_S
    assert limit.allows()


def test_a_crash_is_reported_in_one_line_and_the_server_is_started_again() -> None:
    restarted = threading.Event()
    second = ScriptedProcess()

    def restart() -> ScriptedProcess:
        restarted.set()
        return second

    supervisor, lines = supervise(ScriptedProcess(-11), restart)
    assert restarted.wait(5)
    supervisor.begin_stop()
    second.end(0)
    supervisor.join()
    supervisor.wait()
    assert lines == ["Triton crashed (SIGSEGV) after 0.0 s; restarting", "Triton is ready again after 0.0 s"]
    assert supervisor.failure is None


def test_a_server_that_crashes_too_often_is_given_up_with_the_last_line_of_its_log() -> None:
    supervisor, lines = supervise(ScriptedProcess(-9), lambda: ScriptedProcess(-9), restarts=5)
    with pytest.raises(TritonError, match=r"crashed \(SIGKILL\) .*at most 5 times within 10 minutes: last line$"):
        supervisor.wait()
    assert sum(line.endswith("restarting") for line in lines) == 5


def test_an_end_that_is_no_crash_is_named_by_its_status() -> None:
    supervisor, _ = supervise(ScriptedProcess(1), ScriptedProcess, restarts=0)
    with pytest.raises(TritonError, match="Triton ended with status 1 after"):
        supervisor.wait()


def test_a_restart_that_fails_is_tried_again_and_the_reason_is_reported() -> None:
    outcomes: Iterator[TritonError | ScriptedProcess] = iter([TritonError("port 1: in use"), ScriptedProcess(-9)])

    def restart() -> ScriptedProcess:
        outcome = next(outcomes)
        if isinstance(outcome, TritonError):
            raise outcome
        return outcome

    supervisor, lines = supervise(ScriptedProcess(-9), restart, restarts=2)
    with pytest.raises(TritonError, match="SIGKILL"):
        supervisor.wait()
    assert [line for line in lines if line.endswith("restarting")][1] == "port 1: in use; restarting"


def test_a_fault_of_the_supervisor_itself_does_not_look_like_a_server_that_was_stopped() -> None:
    def restart() -> ScriptedProcess:
        raise ZeroDivisionError("a bug")

    supervisor, _ = supervise(ScriptedProcess(-9), restart)
    with pytest.raises(TritonError, match="no longer supervised: ZeroDivisionError: a bug"):
        supervisor.wait()


def test_a_server_that_is_stopped_is_not_started_again() -> None:
    process = ScriptedProcess()
    supervisor, lines = supervise(process, ScriptedProcess)
    supervisor.begin_stop()
    process.end(-15)
    supervisor.join()
    assert not lines


def test_a_report_that_fails_does_not_end_the_supervision(caplog: pytest.LogCaptureFixture) -> None:
    def fail(line: str) -> None:
        raise BrokenPipeError("closed")

    second, restarted = ScriptedProcess(), threading.Event()

    def restart() -> ScriptedProcess:
        restarted.set()
        return second

    supervisor, _ = supervise(ScriptedProcess(-9), restart, on_progress=fail)
    assert restarted.wait(5)
    supervisor.begin_stop()
    second.end(0)
    supervisor.join()
    assert supervisor.failure is None
    assert "restarting" in caplog.text
