"""The progress bar of a search."""

from __future__ import annotations

import threading

import pytest
from terminal import use_terminal

from tamiz_release.precision.search_bar import SearchBar


def test_a_terminal_shows_how_much_of_the_time_budget_has_passed_below_the_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = use_terminal(monkeypatch)
    with SearchBar("INT8 [a]", 60, print) as bar:
        bar.line("INT8 of all operators: 1.40 × FP32")
    assert any(line.startswith("INT8 [a] ") and line.endswith("0 s of at most 60 s") for line in terminal.lines)
    # Standard output can be a file.
    assert capsys.readouterr().out == "INT8 of all operators: 1.40 × FP32\n"


def test_the_bar_is_removed_and_leaves_no_thread_also_when_the_search_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="failed"), SearchBar("INT8", 60, print):
        raise RuntimeError("failed")
    for thread in set(threading.enumerate()) - before:
        # It was told to end.
        thread.join(10)
    assert set(threading.enumerate()) <= before
    erase_line = "\x1b[2K"
    assert terminal.getvalue().rstrip().endswith(erase_line)


def test_a_pipe_shows_the_lines_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchBar("INT8", 60, print) as bar:
        bar.line("a step")
    assert capsys.readouterr() == ("a step\n", "")
