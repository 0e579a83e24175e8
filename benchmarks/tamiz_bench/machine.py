"""The machine that a benchmark runs on: its description, and whether it is quiet."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import tamiz

MAX_STEAL = 0.05
"""Median fraction of steal time above which the results of a benchmark are unreliable."""


def describe_machine() -> dict[str, str]:
    """The time, the processor and the software versions of a benchmark."""
    # Imported here because the benchmark of the preprocessing needs no ONNX Runtime.
    import onnxruntime as ort

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "tamiz": tamiz.__version__,
        "onnxruntime": ort.__version__,
    }


def steal_fraction(before: Sequence[float], after: Sequence[float]) -> float:
    """Fraction of CPU time, from 0 to 1, in which the hypervisor ran other virtual machines.

    Args:
        before: ``psutil.cpu_times()`` at the start of the interval, in seconds.
        after: ``psutil.cpu_times()`` at its end.

    On Linux the first eight times are user, nice, system, idle, iowait, irq, softirq and steal; guest time is part of
    user time, so the later ones are left out (proc_stat(5)).
    """
    spent = [end - start for start, end in zip(before[:8], after[:8], strict=True)]
    return spent[7] / sum(spent) if sum(spent) else 0.0


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()
