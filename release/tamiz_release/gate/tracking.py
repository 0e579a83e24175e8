"""Logging the verdict of the gate to the run in MLflow of the training run."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from tamiz.errors import TrackingError
from tamiz_train.run import Run

from .page import write_gate_report
from .report import GateReport


def track_gate(report: GateReport, run: Run | None, on_progress: Callable[[str], None]) -> None:
    """Add a report to the run in MLflow of a training run: its figures as ``gate/<name>``, and its files.

    Does nothing if the run is not tracked there. If MLflow cannot be used, that is a warning: the verdict is with the
    version too.

    Args:
        report: the report.
        run: the training run; None for a candidate that has none.
        on_progress: called with the warning.
    """
    if run is None or run.recipe.tracking.uri is None:
        return
    # Imported here, because it needs PyTorch.
    from tamiz_train.tracking import log_evaluation

    with tempfile.TemporaryDirectory(prefix="tamiz-") as temporary:
        folder = Path(temporary) / "gate"
        write_gate_report(report, folder)
        figures = {f"gate/{name}": value for name, value in report.figures().items() if math.isfinite(value)}
        try:
            log_evaluation(run, figures, folder)
        except TrackingError as exc:
            on_progress(f"warning: the verdict of the gate was not logged: {exc}")
