"""Comparison of contenders that are measured in interleaved rounds.

The speed of a machine changes from one minute to the next. Every round measures each contender once, so that the
measurements of one round are close in time, and contenders are compared by the median of the rounds' ratios.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil
from rich.text import Text

from tamiz.arguments import check_choice, check_function, check_progress, check_text, show, wrong
from tamiz.console import print_table

from .arguments import check_rounds
from .machine import MAX_STEAL, steal_fraction


@dataclass(frozen=True)
class Comparison:
    """Figures of several contenders.

    Attributes:
        unit: unit of the figures, such as ``images/s``.
        figures: the figures of each contender, one per round.
    """

    unit: str
    figures: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median of a contender's figures.

        Raises:
            UsageError: there is no such contender.
        """
        check_choice("name", name, self.figures)
        return statistics.median(self.figures[name])

    def ratio(self, name: str, reference: str) -> float:
        """One contender ÷ another: the median of the rounds' ratios.

        Raises:
            UsageError: there is no such contender.
        """
        check_choice("name", name, self.figures)
        check_choice("reference", reference, self.figures)
        pairs = zip(self.figures[name], self.figures[reference], strict=True)
        return statistics.median(figure / of_reference for figure, of_reference in pairs)


def measure_in_rounds(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    unit: str,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Measure each contender once in each round, in an order that changes from round to round.

    Args:
        contenders: a function for each contender that takes one measurement and returns its figure.
        rounds: number of rounds.
        unit: unit of the figures.
        on_progress: called with one line of text after each measurement, and with a warning at the end when the
            median steal time of the measurements is above `tamiz_bench.machine.MAX_STEAL`.

    Raises:
        UsageError: an argument is wrong.
    """
    if not isinstance(contenders, Mapping) or not contenders:
        raise wrong("contenders", contenders, "a dict of at least one name with its function")
    for name, measure in contenders.items():
        check_text("contenders", name, "the names of contenders as strings")
        check_function(f"contenders[{show(name)}]", measure, "a function that takes one measurement")
    check_rounds(rounds)
    check_text("unit", unit, "the unit of the figures")
    check_progress(on_progress)
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    order, generator = list(contenders), random.Random(0)
    steal = []
    for number in range(1, rounds + 1):
        for name in order:
            before = psutil.cpu_times()
            figures[name].append(contenders[name]())
            steal.append(steal_fraction(before, psutil.cpu_times()))
            on_progress(f"round {number} of {rounds}: {name} {_format(figures[name][-1])} {unit}")
        # So that no contender always follows the same other one.
        generator.shuffle(order)
    if (median_steal := statistics.median(steal)) > MAX_STEAL:
        on_progress(
            f"warning: steal time was {median_steal:.0%} (the hypervisor ran other virtual machines on these "
            "processors); repeat the benchmark on a quiet host"
        )
    return Comparison(unit, figures)


def print_comparison(comparison: Comparison, reference: str) -> None:
    """Print a table with the median, the lowest and the highest figure of each contender, and its ratio to one of them.

    Args:
        comparison: the figures.
        reference: name of the contender by which the others are divided.
    """
    rows = []
    for name, figures in comparison.figures.items():
        cells = [_format(value) for value in (comparison.median(name), min(figures), max(figures))]
        rows.append([name, *map(align_right, [*cells, f"{comparison.ratio(name, reference):.2f}"])])
    print_table(["", f"{comparison.unit}, median", "lowest", "highest", f"÷ {reference}, median"], rows)


def align_right(cell: str) -> Text:
    """A table cell with its text aligned to the right, for numbers."""
    return Text(cell, justify="right")


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
