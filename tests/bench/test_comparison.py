from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tamiz_bench.comparison import Comparison, measure_in_rounds, print_comparison


def test_every_round_measures_each_contender_once_in_a_changing_order() -> None:
    calls: list[str] = []
    numbers = count(1.0)

    def measure(name: str) -> float:
        calls.append(name)
        return next(numbers)

    lines: list[str] = []
    contenders = {"a": lambda: measure("a"), "b": lambda: measure("b")}
    comparison = measure_in_rounds(contenders, 8, "images/s", lines.append)
    assert [len(figures) for figures in comparison.figures.values()] == [8, 8]
    assert {tuple(calls[start : start + 2]) for start in range(0, 16, 2)} == {("a", "b"), ("b", "a")}
    assert lines[0] == "round 1 of 8: a 1 images/s"


@pytest.mark.parametrize(
    ("figures", "reference"),
    [([100, 10, 10], [200, 20, 20]), ([100, 10, 9], [100, 20, 18])],
    ids=["steady ratio", "first round disturbed"],
)
def test_a_ratio_compares_measurements_of_the_same_round(figures: list[float], reference: list[float]) -> None:
    # The machine becomes ten times slower after the first round.
    assert Comparison("images/s", {"a": figures, "b": reference}).ratio("a", "b") == 0.5


@pytest.mark.parametrize(("steal", "warned"), [(0.0, False), (30.0, True)])
def test_steal_time_is_reported_with_a_warning(steal: float, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def cpu_times() -> Iterator[tuple[float, ...]]:
        for second in count():
            yield (second * (100.0 - steal), 0, 0, 0, 0, 0, 0, second * steal, 0, 0)

    readings = cpu_times()
    monkeypatch.setattr("psutil.cpu_times", lambda: next(readings))
    lines: list[str] = []
    measure_in_rounds({"a": lambda: 1.0}, 3, "images/s", lines.append)
    assert ("warning: steal time was 30%" in lines[-1]) is warned


def test_the_table_shows_the_spread_and_the_ratio_to_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(Comparison("images/s", {"a": [500, 1500, 1000], "limit": [1000, 2000, 4000]}), "limit")
    row = next(line for line in capsys.readouterr().out.splitlines() if " a " in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a", "1,000", "500", "1,500", "0.50"]
