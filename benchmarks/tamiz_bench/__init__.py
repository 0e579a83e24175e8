"""Measure images per second and latency, beside the limit of the hardware in the same run.

A script can run each benchmark without the command line::

    from pathlib import Path

    from tamiz import Client
    from tamiz_bench import print_report, run_benchmark, sample_images, write_report

    images = sample_images(sorted(Path("data/digits/test").rglob("*.png")))
    with Client("grpc://127.0.0.1:8001", model="digits") as client:
        report = run_benchmark(client, Path("model_repository/digits/1/model.onnx"), images)
    print_report(report)
    write_report(report, Path("reports/digits"))

Each benchmark is also a command:

- `run_benchmark`, ``tamiz bench served``: compares a served model with the same work in this process.
- `compare_clients`, ``tamiz bench client``: compares the client with a tritonclient script.
- `compare_preprocessing`, ``tamiz bench preprocessing``: compares the preprocessing with OpenCV.
- `compare_training`, ``tamiz bench training``: compares the trainer with a PyTorch loop.

Names are imported on first use, since they need packages of the extra ``bench``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tamiz.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .benchmark import run_benchmark
    from .client import ClientReport, compare_clients
    from .comparison import Comparison, measure_in_rounds
    from .limit import InProcessLimit, LimitSetting, find_limit
    from .load.closed_loop import Load, measure_bulk_throughput, measure_calls, measure_client, sample_images
    from .preprocessing import compare_preprocessing
    from .report import Report, print_report
    from .report_files import write_report
    from .statistics import Measurement
    from .training import TrainingReport, Workload, compare_training

__all__ = [
    "ClientReport",
    "Comparison",
    "InProcessLimit",
    "LimitSetting",
    "Load",
    "Measurement",
    "Report",
    "TrainingReport",
    "Workload",
    "compare_clients",
    "compare_preprocessing",
    "compare_training",
    "find_limit",
    "measure_bulk_throughput",
    "measure_calls",
    "measure_client",
    "measure_in_rounds",
    "print_report",
    "run_benchmark",
    "sample_images",
    "write_report",
]

_LAZY = {
    "ClientReport": "client",
    "Comparison": "comparison",
    "InProcessLimit": "limit",
    "LimitSetting": "limit",
    "Load": "load.closed_loop",
    "Measurement": "statistics",
    "Report": "report",
    "TrainingReport": "training",
    "Workload": "training",
    "compare_clients": "client",
    "compare_preprocessing": "preprocessing",
    "compare_training": "training",
    "find_limit": "limit",
    "measure_bulk_throughput": "load.closed_loop",
    "measure_calls": "load.closed_loop",
    "measure_client": "load.closed_loop",
    "measure_in_rounds": "comparison",
    "print_report": "report",
    "run_benchmark": "benchmark",
    "sample_images": "load.closed_loop",
    "write_report": "report_files",
}

__getattr__, __dir__ = lazy_exports(__name__, _LAZY, __all__)
