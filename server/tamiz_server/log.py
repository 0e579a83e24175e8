"""Triton's log: why a server failed, in one line."""

from __future__ import annotations

import re
from pathlib import Path

_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: .*")

_REASONS = (
    # The most specific pattern comes first.
    _MISSING_LIBRARY,
    re.compile(r"failed to load '.*' version \d+: .*"),
    re.compile(r".*Address already in use.*"),
    re.compile(r"(?<=\] \").*already in use"),
    re.compile(r"(?<=creating server: ).*"),
    re.compile(r"(?<=\] \").*[Ff]ailed.*(?=\")"),
)


def failure_reason(log: Path) -> str:
    """Why Triton failed to start or to load a model; the last line of the log if no line gives a reason."""
    text = read_log(log)
    found = next((found for pattern in _REASONS if (found := pattern.search(text))), None)
    return found[0].strip() if found else last_line(log)


def missing_library(log: Path) -> str | None:
    """The dynamic loader's message about a shared library that it did not find; None if there is no such message."""
    found = _MISSING_LIBRARY.search(read_log(log))
    return found[0] if found else None


def last_line(log: Path) -> str:
    """The last line of the log that is not empty."""
    lines = read_log(log).strip().splitlines()
    return lines[-1].strip() if lines else "the log is empty"


def read_log(log: Path) -> str:
    """The whole log; empty if the file does not exist."""
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
