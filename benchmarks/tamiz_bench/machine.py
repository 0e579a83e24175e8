"""The machine that a benchmark runs on: its description, and whether it is quiet."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

import tamiz
from tamiz_server.processor import processor_name

MAX_STEAL = 0.05
"""Median fraction of steal time above which the results of a benchmark are unreliable."""


def describe_machine() -> dict[str, str]:
    """The time, the processor and the software versions of a benchmark."""
    # Imported here because the benchmark of the preprocessing needs no ONNX Runtime.
    import onnxruntime as ort

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": f"{os.cpu_count()} × {processor_name()}",
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
