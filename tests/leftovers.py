"""What embedded servers leave behind on this machine: processes, temporary files, shared memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil


def leftovers() -> set[str]:
    """Paths of the temporary folders and the shared memory of embedded servers, running ones included."""
    shared = {str(path) for path in Path("/dev/shm").glob("tamiz-triton-*")}
    environments = {str(path) for path in Path("/tmp").glob("python_env_*")}
    return shared | environments | {str(path) for path in Path(tempfile.gettempdir()).glob("tamiz-triton-*")}


def have_ended(pids: list[int]) -> bool:
    """Whether all processes end within 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
            return True
        time.sleep(0.05)
    return False
