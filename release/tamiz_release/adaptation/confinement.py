"""Confinement: running a function in a process of its own, with limits of memory and time.

A graph from elsewhere may be small and still need more memory than the machine has, or never end. Its first run
therefore is in a process that the kernel stops at a limit, so that neither this process nor others suffer.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

from tamiz.errors import ExportError, SpecError, TamizError, UsageError, cut

_ERRORS: dict[str, type[TamizError]] = {kind.__name__: kind for kind in (ExportError, SpecError, UsageError)}


def run_confined(target: str, request: dict[str, Any], *, name: str, memory: int, seconds: int) -> Any:
    """Call a function in a process of its own.

    Args:
        target: the function, as ``package.module:function``; it takes ``request`` and returns what JSON can hold.
        request: its argument, which JSON can hold.
        name: what is examined, for messages.
        memory: the largest number of bytes of data that the process may have.
        seconds: the longest time, in seconds; of the processor as well.

    Raises:
        ExportError: the function raised it, or needs more memory or time. An error of another class that the function
            raises (`SpecError`, `UsageError`) is raised too.
    """
    # Without -P, Python would import the files of the current folder, which may be anybody's.
    arguments = [sys.executable, "-P", "-m", __name__, target, str(memory), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        try:
            content, errors = process.communicate(json.dumps(request).encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ExportError(f"{name}: stopped after {seconds} s: it takes too long to run a few images") from None
        finally:
            process.kill()
    limit = f"{memory / 2**30:.1f} GiB of memory"
    if not content:
        how = f"exit code {process.returncode}"
        if process.returncode < 0:
            how = signal.Signals(-process.returncode).name
        last = cut(" ".join(errors.decode(errors="replace").split()[-40:]), 300)
        raise ExportError(f"{name}: running it in a process with {limit} and {seconds} s ended with {how}: {last}")
    document = json.loads(content)
    if "error" in document:
        raise _ERRORS[document["error"]](document["message"])
    return document["result"]


def _main(target: str, memory: int, seconds: int) -> None:
    # What the libraries print goes to the other stream, so that this one has the answer alone.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Of private writable memory: file mappings and memory that is only reserved for threads do not count.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.loads(sys.stdin.buffer.read())
    module, _, function = target.partition(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), function)(request)}
    except MemoryError:
        answer = {"error": "ExportError", "message": f"it needs more than {memory / 2**30:.1f} GiB of memory"}
    except (ExportError, SpecError, UsageError) as exc:
        answer = {"error": type(exc).__name__, "message": str(exc)}
    with os.fdopen(answers, "wb") as stream:
        stream.write(json.dumps(answer).encode())


if __name__ == "__main__":
    _main(sys.argv[1], *map(int, sys.argv[2:]))
