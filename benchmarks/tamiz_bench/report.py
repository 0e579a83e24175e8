"""The report of the benchmark of a served model, and its table for the terminal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tamiz.arguments import check_instance
from tamiz.console import print_table

from .comparison import Comparison, align_right
from .limit import LimitSetting
from .load.closed_loop import Load
from .statistics import Measurement

SERVED, LIMIT = "served", "limit"
"""Names of the contenders in `Report.comparison`."""


@dataclass(frozen=True)
class Report:
    """Results of the benchmark of a served model.

    Attributes:
        model: name of the model.
        version: version of the model.
        images: number of image files.
        machine: processor, software versions and time of the benchmark.
        sweep: each load with its measurement.
        limit_trials: each setting of the in-process limit with the measurement of its trial.
        load: the fastest load, which is compared with the limit.
        limit_setting: the fastest setting of the in-process limit.
        comparison: images/s of ``served`` and ``limit`` by round.
    """

    model: str
    version: int
    images: int
    machine: dict[str, str]
    sweep: list[tuple[Load, Measurement]]
    limit_trials: list[tuple[LimitSetting, Measurement]]
    load: Load
    limit_setting: LimitSetting
    comparison: Comparison

    @property
    def served_images_per_s(self) -> float:
        """Throughput of the served model in images per second: the median of the rounds."""
        return self.comparison.median(SERVED)

    @property
    def limit_images_per_s(self) -> float:
        """Throughput of the in-process limit in images per second: the median of the rounds."""
        return self.comparison.median(LIMIT)

    @property
    def served_to_limit(self) -> float:
        """Served ÷ limit: the median of the rounds' ratios."""
        return self.comparison.ratio(SERVED, LIMIT)

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON document."""
        return {
            "model": self.model,
            "version": self.version,
            "images": self.images,
            "machine": self.machine,
            "served_images_per_s": self.served_images_per_s,
            "limit_images_per_s": self.limit_images_per_s,
            "served_to_limit": self.served_to_limit,
            "load": asdict(self.load),
            "limit_setting": asdict(self.limit_setting),
            "images_per_s": self.comparison.figures,
            "sweep": [_row(load, measurement) for load, measurement in self.sweep],
            "limit_trials": [_row(setting, measurement) for setting, measurement in self.limit_trials],
        }


def print_report(report: Report) -> None:
    """Print the sweep as a table, then the served throughput, the limit and their ratio.

    Raises:
        UsageError: it is not a report.
    """
    check_instance("report", report, Report)
    rows = []
    for load, measurement in report.sweep:
        latencies = (measurement.p50_ms, measurement.p95_ms, measurement.p99_ms)
        cells = [str(load.in_flight), str(load.batch_size), f"{measurement.images_per_s:,.0f}"]
        rows.append(map(align_right, [*cells, *(f"{value:,.1f}" for value in latencies)]))
    print(f"{report.model} version {report.version} on {report.machine['processor']}")
    print_table(["in flight", "batch size", "images/s", "p50 ms", "p95 ms", "p99 ms"], rows)
    load, setting = report.load, report.limit_setting
    print(
        f"served: {report.served_images_per_s:,.0f} images/s ({load.in_flight} in flight, batch size "
        f"{load.batch_size}; median of {_rounds(report)})"
    )
    print(
        f"limit:  {report.limit_images_per_s:,.0f} images/s in process ({setting.threads} threads, "
        f"{setting.intra_op_threads} intra-op threads of ONNX Runtime, batch size {setting.batch_size}; same rounds)"
    )
    print(f"served ÷ limit = {report.served_to_limit:.3f}")
    if report.served_to_limit > 1:
        print(
            "The ratio is above 1, so the measured limit is too low: measure longer (--seconds), in more rounds "
            "(--rounds), and on a quiet machine."
        )


def _rounds(report: Report) -> str:
    count = len(report.comparison.figures[SERVED])
    return f"{count} rounds" if count > 1 else "1 round"


def _row(parameters: Load | LimitSetting, measurement: Measurement) -> dict[str, Any]:
    return {**asdict(parameters), **asdict(measurement), "images_per_s": measurement.images_per_s}
