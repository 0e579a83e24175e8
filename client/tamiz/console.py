"""What commands print: one console, one form of JSON, and the exit codes."""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_WITHOUT_TERMINAL = 160
"""Columns of a table that is written to a file or a pipe, which has no width of its own."""


class ExitCode(enum.IntEnum):
    """Exit codes of every command.

    Attributes:
        DONE: the work is done.
        FAILED: the work failed.
        USAGE: an argument, an option, a setting or a recipe is wrong; nothing was done.
        UNREADABLE_IMAGES: the work is done, except for images that cannot be read.
        INTERRUPTED: Ctrl-C or a signal ended the command.
        BROKEN_PIPE: the reader of the output went away, as in ``tamiz … | head``.
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREADABLE_IMAGES = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def make_console(*, stderr: bool = False) -> Console:
    """The console of a command: as wide as the terminal, or 160 columns where the output is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL)


def print_table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; cells are shown as plain text, without rich's markup."""
    table = Table(*headers)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    make_console().print(table)


def print_json(document: Any) -> None:
    """Print one JSON document on one line, as ``--json`` promises."""
    print(json.dumps(document), flush=True)


def progress_line(line: str) -> None:
    """Print a line about the progress of the work, at once."""
    print(line, flush=True)


def printable(text: str) -> str:
    """Text that may hold a file name that is not UTF-8, with the bytes that cannot be shown replaced."""
    return os.fsencode(text).decode(errors="replace")
