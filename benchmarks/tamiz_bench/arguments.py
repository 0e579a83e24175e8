"""Arguments: checks of what all benchmarks take, before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tamiz.arguments import check_list, check_path, check_whole, wrong

MAX_THREADS = 1_024
MAX_ROUNDS = 10_000
MAX_SIDE = 16_384
"""Largest height and width of a network's input, in pixels."""


def check_images(images: Sequence[Path]) -> None:
    """Check a list of image files, of which there must be at least one.

    Raises:
        UsageError: it is something else.
    """
    expected = "a list of at least one image file"
    check_list("images", images, expected)
    if not images:
        raise wrong("images", images, expected)
    for index, image in enumerate(images):
        check_path(f"images[{index}]", image, "the path of an image file")


def check_rounds(rounds: object) -> None:
    """Check a number of rounds.

    Raises:
        UsageError: it is something else.
    """
    check_whole("rounds", rounds, most=MAX_ROUNDS)
