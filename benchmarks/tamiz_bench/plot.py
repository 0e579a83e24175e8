"""The plot of a report: throughput and latency over the number of requests in flight."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .load.closed_loop import Load
from .report import Report
from .statistics import Measurement


def plot_report(report: Report) -> bytes:
    """A PNG file with the throughput of the sweep beside the in-process limit, and its latency percentiles."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    for batch_size in sorted({load.batch_size for load, _ in report.sweep}):
        rows = [row for row in report.sweep if row[0].batch_size == batch_size]
        _plot_batch_size(throughput, latency, batch_size, rows)
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
    figure.suptitle(f"{report.model} version {report.version}: served ÷ limit = {report.served_to_limit:.3f}")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _plot_batch_size(throughput: Axes, latency: Axes, batch_size: int, rows: list[tuple[Load, Measurement]]) -> None:
    in_flight = [load.in_flight for load, _ in rows]
    measurements = [measurement for _, measurement in rows]
    label = f"batch size {batch_size}"
    throughput.plot(in_flight, [measurement.images_per_s for measurement in measurements], "o-", label=label)
    p50, p99 = ([getattr(measurement, name) for measurement in measurements] for name in ("p50_ms", "p99_ms"))
    (line,) = latency.plot(in_flight, p50, "o-", label=f"p50, {label}")
    latency.plot(in_flight, p99, "o:", color=line.get_color(), label=f"p99, {label}")
