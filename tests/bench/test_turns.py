from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tamiz_bench import turns
from tamiz_bench.turns import ratio, take_turns


def test_each_contender_has_its_turn_in_each_round() -> None:
    calls: list[str] = []
    numbers = count(1.0)

    def measure(name: str) -> float:
        calls.append(name)
        return next(numbers)

    lines: list[str] = []
    figures = take_turns({"a": lambda: measure("a"), "b": lambda: measure("b")}, 8, "images/s", lines.append)
    assert [len(values) for values in figures.values()] == [8, 8]
    pairs = {tuple(calls[start : start + 2]) for start in range(0, 16, 2)}
    assert pairs == {("a", "b"), ("b", "a")}, "in another order from one round to the next"
    assert lines[0] == "round 1 of 8: a 1 images/s"


def test_a_ratio_is_of_measurements_that_were_close_in_time() -> None:
    # The machine became ten times slower after the first round.
    assert ratio([100, 10, 10], [200, 20, 20]) == 0.5
    assert ratio([100, 10, 9], [100, 20, 18]) == 0.5


@pytest.mark.parametrize(("stolen", "told"), [(0.0, False), (30.0, True)])
def test_a_machine_whose_processors_are_lent_to_others_is_told(
    stolen: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times() -> Iterator[tuple[float, ...]]:
        for turn in count():
            yield (turn * (100.0 - stolen), 0, 0, 0, 0, 0, 0, turn * stolen, 0, 0)

    clock = times()
    monkeypatch.setattr(turns.psutil, "cpu_times", lambda: next(clock))
    lines: list[str] = []
    take_turns({"a": lambda: 1.0}, 3, "images/s", lines.append)
    assert ("took 30% of the processors' time" in lines[-1]) is told
