from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tamiz.errors import OutputError
from tamiz_bench.comparison import Comparison
from tamiz_bench.limit import LimitSetting
from tamiz_bench.load.closed_loop import Load
from tamiz_bench.report import Report, print_report
from tamiz_bench.report_files import prepare_folder, write_report
from tamiz_bench.statistics import Measurement

REPORT = Report(
    model="digits",
    version=3,
    images=10,
    machine={"processor": "2 × Example"},
    sweep=[
        (Load(in_flight, batch_size), Measurement(1000 * in_flight, 2.0, 1.0, 2.0, 3.0))
        for batch_size in (1, 16)
        for in_flight in (1, 2)
    ],
    limit_trials=[(LimitSetting(2, 1, 8), Measurement(2400, 1.0, 4.0, 5.0, 6.0))],
    load=Load(2, 16),
    limit_setting=LimitSetting(2, 1, 8),
    comparison=Comparison("images/s", {"served": [900, 1000, 500], "limit": [1000, 1250, 1000]}),
)


def test_the_report_divides_the_served_figures_by_the_limit_of_the_same_round() -> None:
    assert (REPORT.served_images_per_s, REPORT.limit_images_per_s) == (900, 1000)
    assert REPORT.served_to_limit == 0.8


def test_the_terminal_shows_the_sweep_and_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT)
    out = capsys.readouterr().out
    assert out.startswith("digits version 3 on 2 × Example\n")
    assert [cell.strip() for cell in out.splitlines()[4].strip("│").split("│")] == [
        "1",
        "1",
        "500",
        "1.0",
        "2.0",
        "3.0",
    ]
    assert out.endswith("served ÷ limit = 0.800\n")


def test_a_ratio_above_one_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Comparison("images/s", {"served": [1168.0], "limit": [1000.0]})
    print_report(dataclasses.replace(REPORT, comparison=figures))
    out = capsys.readouterr().out
    assert "median of 1 round)" in out
    assert out.splitlines()[-2] == "served ÷ limit = 1.168"
    assert "the measured limit is too low: measure longer (--seconds)" in out.splitlines()[-1]


def test_the_report_is_written_as_json_and_as_a_plot(tmp_path: Path) -> None:
    write_report(REPORT, tmp_path / "new" / "report")
    document = json.loads((tmp_path / "new" / "report" / "report.json").read_text())
    assert document == REPORT.to_dict()
    assert document["sweep"][0] == {
        "in_flight": 1,
        "batch_size": 1,
        "images": 1000,
        "duration_s": 2.0,
        "p50_ms": 1.0,
        "p95_ms": 2.0,
        "p99_ms": 3.0,
        "images_per_s": 500.0,
    }
    assert (tmp_path / "new" / "report" / "report.png").stat().st_size > 10_000


def test_a_folder_that_cannot_be_created_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/report: cannot be created: Not a directory; name another folder"):
        prepare_folder(tmp_path / "file" / "report")
