"""Contenders measured in turns, since a machine's speed changes from one minute to the next.

The figure that counts is `ratio`: the median of the rounds' ratios, each of two measurements that were close in time.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

Figures = dict[str, list[float]]


def take_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, unit: str, say: Callable[[str], None]
) -> Figures:
    """Measure each contender once in each round.

    Args:
        contenders: what measures each, by name.
        rounds: how many.
        unit: of the figures, for ``say``.
        say: gets a line of text for a person after each measurement.

    Returns:
        Each contender's figures, by round.
    """
    figures: Figures = {name: [] for name in contenders}
    order, chance = list(contenders), random.Random(0)
    for turn in range(rounds):
        for name in order:
            figures[name].append(contenders[name]())
            say(f"round {turn + 1} of {rounds}: {name} {_number(figures[name][-1])} {unit}")
        # In another order each time, so that none is always the one after the same other.
        chance.shuffle(order)
    return figures


def ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """One contender ÷ another: the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def print_figures(figures: Figures, unit: str, reference: str) -> None:
    """Print a table of the contenders, and what each is of the one named ``reference``."""
    table = Table("", f"{unit}, median", "lowest", "highest", f"÷ {reference}, median")
    for name, values in figures.items():
        row = map(_number, (statistics.median(values), min(values), max(values)))
        table.add_row(name, *row, f"{ratio(values, figures[reference]):.2f}")
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
