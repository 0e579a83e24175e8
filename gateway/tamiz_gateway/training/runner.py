"""The runner: a process that runs the queued training jobs, one at a time, and ends when none is left.

``python -m tamiz_gateway.training.runner JOBS_DIR``. A second runner waits for the lock of the first one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tamiz.locks import lock

from .jobs import (
    CANCEL,
    CANCELLED,
    COMPLETED,
    FAILED,
    LOCK,
    LOG,
    QUEUED,
    RESULT,
    RUNNING,
    fail_lost,
    job_folders,
    read_state,
    write_state,
)

POLL_S = 0.2
"""Seconds after which the runner looks again whether the job has ended or is to be cancelled."""

GRACE_S = 10.0
"""Seconds in which a cancelled job may end by itself."""


def main(folder: Path) -> None:
    """Run the queued jobs of a folder, the oldest first."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    lock(descriptor, wait=True)
    fail_lost(folder)
    while (job := next((job for job in job_folders(folder) if read_state(job)["state"] == QUEUED), None)) is not None:
        _run(job, descriptor)
    os.close(descriptor)


def _run(job: Path, descriptor: int) -> None:
    state = read_state(job)
    if (job / CANCEL).exists():
        write_state(job, {**state, "state": CANCELLED})
        return
    write_state(job, {**state, "state": RUNNING})
    with (job / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tamiz_gateway.training.job", str(job)],
            cwd=job,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # The child holds the lock too: if this process is killed, nothing else trains until the child has ended.
            pass_fds=[descriptor],
        )
    cancelled = False
    while process.poll() is None:
        if not cancelled and (job / CANCEL).exists():
            cancelled = True
            _end(process)
        time.sleep(POLL_S)
    if (job / RESULT).is_file():
        # Also of a job that was cancelled too late.
        write_state(job, {**state, "state": COMPLETED})
    elif cancelled:
        write_state(job, {**state, "state": CANCELLED})
    else:
        write_state(job, {**state, "state": FAILED, "error": _last_line(job / LOG, process.returncode)})


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a job with the processes that load its images."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)


def _last_line(log: Path, status: int) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ")[:1_000] if lines else "the log is empty"
    return last if status > 0 else f"the process ended by signal {-status}: {last}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
