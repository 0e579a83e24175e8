"""Command-line options that the benchmarks share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DurationOption: TypeAlias = Annotated[
    float, typer.Option("--seconds", min=0.1, help="Duration of each measurement in seconds.")
]
RoundsOption: TypeAlias = Annotated[
    int, typer.Option("--rounds", min=1, help="Number of rounds; each measures all contenders once.")
]
ReportOption: TypeAlias = Annotated[Path | None, typer.Option("--out", help="Folder for the report.")]
