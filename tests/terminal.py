"""A terminal in memory, for tests of what commands show on one."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.text import Text


class Terminal(io.StringIO):
    """A text file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """Everything that was ever shown, without colours; a bar that was drawn again is a line of its own."""
        parts = (Text.from_ansi(part).plain for part in re.split(r"[\r\n]+", self.getvalue()))
        return [line for line in parts if line.strip()]


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal in memory."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return terminal
