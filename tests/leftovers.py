"""What embedded servers leave behind on this machine: processes, temporary files, shared memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil


def leftovers() -> set[str]:
    """Paths of the temporary folders and the shared memory of embedded servers, running ones included.

    Those of servers that other programs on this machine run meanwhile are left out, as far as they can be told apart.
    """
    temporary = Path(tempfile.gettempdir())
    running = _running_servers()
    others = tuple(name for name in running if not (temporary / name).exists())
    shared = {path for path in Path("/dev/shm").glob("tamiz-triton-*") if not path.name.startswith(others)}
    # Nothing tells which server created a folder, so that of a killed server stays while another one runs.
    environments = set() if running else set(Path("/tmp").glob("python_env_*"))
    return {str(path) for path in shared | environments | set(temporary.glob("tamiz-triton-*"))}


def _running_servers() -> list[str]:
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    options = [argument for command in commands for argument in command[1:2]]
    return [option.removeprefix("--id=") for option in options if option.startswith("--id=tamiz-triton-")]


def have_ended(pids: list[int]) -> bool:
    """Whether all processes end within 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]:
            return True
        time.sleep(0.05)
    return False
