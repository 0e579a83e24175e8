"""Console output of the commands: tables, JSON documents, progress lines and exit codes."""

from __future__ import annotations

import enum
import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .json_text import to_json

_WIDTH_WITHOUT_TERMINAL = 160
"""Width in characters of output that goes to a file or a pipe, which have no width."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class ExitCode(enum.IntEnum):
    """Exit codes of every command.

    Attributes:
        SUCCESS: the work is done.
        FAILED: the work failed.
        USAGE: an argument, an option, a setting or a recipe is wrong.
        UNREADABLE_IMAGES: the work is done, except for images that cannot be read.
        INTERRUPTED: Ctrl-C or a signal ended the command.
        BROKEN_PIPE: the reader of the output went away, as in ``tamiz … | head``.
    """

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    UNREADABLE_IMAGES = 3
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def make_console(*, stderr: bool = False) -> Console:
    """Make a console as wide as the terminal, or 160 columns wide when the output is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH_WITHOUT_TERMINAL)


def print_table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table.

    Args:
        headers: titles of the columns.
        rows: cells of each row. Square brackets are printed as they are, since cells are not rich markup, and control
            characters and line ends are escaped; a cell that is a `rich.text.Text` is printed unchanged.
    """
    table = Table(*headers)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable_line(str(cell))) for cell in row))
    make_console().print(table)


def print_json(document: Any) -> None:
    """Print a JSON document on one line, for ``--json``; numbers that are NaN or infinite are null."""
    print(to_json(document), flush=True)


def progress_line(line: str) -> None:
    """Print one line to standard output, about the progress of the work or its result, and flush it."""
    print(printable_line(line), flush=True)


def note_line(line: str) -> None:
    """Print one line to standard error, about what a result leaves out."""
    print(printable_line(line), file=sys.stderr, flush=True)


def print_next(*arguments: object) -> None:
    """Print the command that is useful next, such as ``next: tamiz evaluate runs/digits``.

    Args:
        arguments: the arguments of ``tamiz``; they are quoted for a shell where they must be.
    """
    progress_line(f"next: {shlex.join(['tamiz', *map(str, arguments)])}")


def printable(text: str) -> str:
    """Make a text printable, such as a label or a file name: nothing in it can change the terminal.

    Bytes of a file name that are not UTF-8 become U+FFFD. Control characters except line ends, and the characters that
    change the direction of text, are escaped as in Python.
    """
    legible = _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), legible)


def printable_line(text: str) -> str:
    """Make a text printable on one line: as `printable`, with line ends escaped too."""
    return printable(text).replace("\n", "\\n")
