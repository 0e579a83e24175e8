from __future__ import annotations

import sys
import threading
import time

import pytest
from terminal import use_terminal

from tamiz.image_bar import ImageBar


def test_a_terminal_shows_the_finished_images_their_rate_and_the_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = use_terminal(monkeypatch)
    with ImageBar("epoch 1/2 [a]", 20) as bar:
        for _ in range(2):
            bar.advance(10, note=", 3 errors")
        print("a line of another module")
    shown = terminal.lines[-1]
    assert shown.startswith("epoch 1/2 [a] ")
    assert "20/20" in shown
    assert "images/s, 3 errors, 0:00:00" in shown
    # Standard output can be a file.
    assert capsys.readouterr().out == "a line of another module\n"
    assert sys.stderr is terminal


def test_images_that_an_interrupted_job_finished_do_not_count_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began)
    with ImageBar("job", 1000, done=990) as bar:
        monkeypatch.setattr(time, "monotonic", lambda: began + 2)
        bar.advance(10)
    assert "1000/1000 5 images/s" in terminal.lines[-1]


def test_more_images_than_the_total_are_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with ImageBar("epoch", 3) as bar:
        bar.advance(4)
    assert "3/3" in terminal.lines[-1]


def test_a_bar_that_is_not_kept_is_removed_and_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    before = threading.active_count()
    with ImageBar("epoch", 3) as bar:
        assert threading.active_count() == before
        bar.advance(3)
    erase_line = "\x1b[2K"
    assert terminal.getvalue().rstrip().endswith(erase_line)


def test_a_pipe_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ImageBar("epoch", 3) as bar:
        bar.advance(3)
    assert capsys.readouterr() == ("", "")
