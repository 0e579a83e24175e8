"""Progress of a benchmark on the terminal."""

from __future__ import annotations

import sys


def print_progress(line: str) -> None:
    """Print a line about the progress to stderr, so that stdout holds the results only."""
    print(line, file=sys.stderr, flush=True)
