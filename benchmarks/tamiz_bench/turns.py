"""Contenders measured in turns, since a machine's speed changes from one minute to the next.

The figure that counts is `ratio`: the median of the rounds' ratios, each of two measurements that were close in time.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil
from rich.console import Console
from rich.table import Table

Figures = dict[str, list[float]]

MOST_STOLEN = 0.05
"""Of the processors' time, in half of the measurements, before a person is told that they say little."""


def take_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, unit: str, say: Callable[[str], None]
) -> Figures:
    """Measure each contender once in each round.

    Args:
        contenders: what measures each, by name.
        rounds: how many.
        unit: of the figures, for ``say``.
        say: gets a line of text for a person after each measurement, and at the end where the machine was not quiet.

    Returns:
        Each contender's figures, by round.
    """
    figures: Figures = {name: [] for name in contenders}
    order, chance = list(contenders), random.Random(0)
    stolen = []
    for turn in range(rounds):
        for name in order:
            before = psutil.cpu_times()
            figures[name].append(contenders[name]())
            stolen.append(_stolen(before, psutil.cpu_times()))
            say(f"round {turn + 1} of {rounds}: {name} {_number(figures[name][-1])} {unit}")
        # In another order each time, so that none is always the one after the same other.
        chance.shuffle(order)
    if (share := statistics.median(stolen)) > MOST_STOLEN:
        say(f"other machines on this host took {share:.0%} of the processors' time: measure again when it is quiet")
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


def _stolen(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Share of the processors' time between two ``psutil.cpu_times()`` that the hypervisor gave to other machines."""
    # User, nice, system, idle, iowait, irq, softirq and steal; those of guests are in user's. (proc_stat(5))
    spent = [end - begin for begin, end in zip(before[:8], after[:8], strict=True)]
    return spent[7] / sum(spent) if sum(spent) else 0.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
