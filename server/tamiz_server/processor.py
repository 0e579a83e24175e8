"""The processor of this machine, as Linux describes it."""

from __future__ import annotations

import platform
from pathlib import Path


def read_processor(field: str) -> str:
    """A field of the first processor, such as ``flags``; empty if it has none, or this is not Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")


def processor_name() -> str:
    """The name of the processor."""
    return read_processor("model name") or platform.processor() or platform.machine()
