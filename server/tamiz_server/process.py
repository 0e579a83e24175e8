"""The operating system's process of an embedded server, with all its children."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

EXIT_TIMEOUT_S = 10
"""Seconds that Triton waits for requests in flight when it ends."""


class ServerProcess:
    """The process of a server.

    It runs in a new session, so that Ctrl-C in the terminal does not reach it and `stop` reaches all its children.
    Where the program ``setpriv`` is installed, the process also ends when this process is killed
    (``setpriv --pdeathsig``). Children that it leaves behind when it ends are killed.

    Args:
        command: the program and its arguments.
        environment: all environment variables of the process.
        log: file for its standard output and standard error.
        append: whether to append to the log instead of overwriting it.
        folder: the current folder of the process; that of this process unless given.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        append: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder
        self._log = log
        self._mode = "ab" if append else "wb"
        self._process: subprocess.Popen[bytes]
        self._started: Future[None] = Future()
        self._ended = threading.Event()
        # Linux sends the parent-death signal when the thread that created the child ends, not when its process does. So
        # the child is created by a thread that lives as long as the child.
        self._thread = threading.Thread(target=self._run, name="tamiz-triton", daemon=True)

    def start(self) -> None:
        """Start the process. After an interruption (Ctrl-C), call `stop` too: the process may have been started.

        Raises:
            OSError: the program cannot be executed, or the log cannot be written.
            ValueError: the command contains a null byte.
        """
        self._thread.start()
        self._started.result()

    def _run(self) -> None:
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
        try:
            with self._log.open(self._mode) as output:
                self._process = subprocess.Popen(
                    [*guard, *self._command],
                    env=self._environment,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException as exc:
            self._started.set_exception(exc)
            return
        self._started.set_result(None)
        # The children are killed before the process is reaped: until then, no other process can get its number.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(os.killpg, signal.SIGKILL)
        self._process.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        """Process ID."""
        # Another thread may be starting the process.
        self._started.result()
        return self._process.pid

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the process ends.

        Args:
            timeout_s: seconds to wait at most; None waits without a limit.

        Returns:
            its exit status, or minus the number of the signal that killed it; None if it still runs.
        """
        return self._process.returncode if self._ended.wait(timeout_s) else None

    def stop(self, kill_after_s: float = EXIT_TIMEOUT_S + 5) -> None:
        """Terminate the process, and kill it and its children if it has not ended after so many seconds."""
        if self._was_started():
            try:
                self._signal(os.kill, signal.SIGTERM)
                self._ended.wait(kill_after_s)
            finally:
                self.kill()

    def kill(self) -> None:
        """Kill the process and its children at once."""
        if self._was_started():
            self._signal(os.killpg, signal.SIGKILL)
            self._ended.wait()

    def _was_started(self) -> bool:
        return self._thread.ident is not None and self._started.exception() is None

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                send(self._process.pid, number)


def describe_exit(status: int) -> str:
    """Describe an exit status: ``ended with status 1``, or ``crashed (SIGSEGV)``."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"crashed ({signal.Signals(-status).name})"
    except ValueError:
        return f"crashed (signal {-status})"
