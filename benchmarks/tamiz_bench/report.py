"""A benchmark's report: a table for the terminal, JSON, and a plot."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tamiz.errors import UsageError
from tamiz.files import write_whole

from .benchmark import Report


def print_report(report: Report, console: Console) -> None:
    """The sweep, the limit and the ratio, as a table."""
    table = Table(title=f"{report.model} version {report.version}, {report.machine['processor']}")
    for heading in ("in flight", "images a request", "images/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    for load, measured in report.sweep:
        table.add_row(
            str(load.in_flight),
            str(load.batch_size),
            f"{measured.images_per_s:,.0f}",
            *(f"{value:,.1f}" for value in (measured.p50_ms, measured.p95_ms, measured.p99_ms)),
        )
    console.print(table)
    best, load = report.best_setting, report.best_load
    console.print(
        f"served: {report.served_images_per_s:,.0f} images/s "
        f"({load.in_flight} in flight of {load.batch_size}, median of {len(report.served)} rounds)"
    )
    console.print(
        f"limit:  {report.limit_images_per_s:,.0f} images/s in process ({best.threads} threads × "
        f"{best.intra_op_threads} of ONNX Runtime, batch {best.batch_size}, in turns with served)"
    )
    console.print(f"served ÷ limit = {report.ratio:.3f}")


def make_folder(folder: Path) -> None:
    """Make the folder of a report, before anything is measured.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise UsageError(f"--out {folder}: {exc.strerror}") from exc


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.png``.

    Raises:
        UsageError: the folder cannot be written.
    """
    write_json(report.to_dict(), folder)
    plot = io.BytesIO()
    _plot(report).savefig(plot, dpi=120)
    write_whole(folder / "report.png", plot.getvalue())


def write_json(document: dict[str, Any], folder: Path) -> None:
    """Write ``report.json``.

    Raises:
        UsageError: the folder cannot be written.
    """
    write_whole(folder / "report.json", json.dumps(document, indent=2))


def _plot(report: Report) -> Figure:
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    for size in sorted({load.batch_size for load, _ in report.sweep}):
        rows = [(load.in_flight, measured) for load, measured in report.sweep if load.batch_size == size]
        counts = [count for count, _ in rows]
        label = f"{size} image{'s' if size > 1 else ''} a request"
        throughput.plot(counts, [measured.images_per_s for _, measured in rows], "o-", label=label)
        (line,) = latency.plot(counts, [measured.p50_ms for _, measured in rows], "o-", label=f"p50, {label}")
        latency.plot(counts, [m.p99_ms for _, m in rows], "o:", color=line.get_color(), label=f"p99, {label}")
    limit = report.limit_images_per_s
    throughput.axhline(limit, color="black", linestyle="--", label=f"in-process limit, {limit:,.0f}")
    throughput.set(xlabel="requests in flight", ylabel="images/s", ylim=(0, None), xscale="log")
    latency.set(xlabel="requests in flight", ylabel="latency, ms", xscale="log", yscale="log")
    for axes in (throughput, latency):
        ticks = sorted({load.in_flight for load, _ in report.sweep})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"{report.model} version {report.version}: served ÷ limit = {report.ratio:.3f}")
    return figure
