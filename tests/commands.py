"""``tamiz`` commands, each in a separate process that is forked from one with the libraries already imported.

Most commands spend most of their time importing PyTorch, Lightning and MLflow. A command that is forked from a process
that has done so still has its own working folder, environment, output and exit status. This is a separate module,
because the forked process must be able to import it.
"""

from __future__ import annotations

import atexit
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PRELOADED = [
    "tamiz_bench.demo",
    "tamiz_bench.commands.client",
    "tamiz_train.commands.train",
    "tamiz_train.explanation",
    "lightning",
    "mlflow",
]

# The fork server ignores a module that it cannot import.
_missing = [name for name in PRELOADED if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f"cannot preload {', '.join(_missing)}: no such module")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def run_tamiz(arguments: Sequence[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run ``tamiz ARGUMENTS`` without the environment variables of Tamiz and MLflow (which sets its own).

    Raises:
        subprocess.TimeoutExpired: the command took longer than ``timeout`` seconds and was killed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TAMIZ_", "MLFLOW_"))}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _context.Process(target=_main, args=(arguments, cwd, environment, out, err))
        process.start()
        try:
            process.join(timeout)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(["tamiz", *arguments], timeout)
        finally:
            process.kill()
            process.join()
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


def _main(arguments: Sequence[str], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for descriptor, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tamiz", *arguments]
    from tamiz.cli import main

    try:
        main()
    finally:
        # A process of multiprocessing ends without running them.
        atexit._run_exitfuncs()
