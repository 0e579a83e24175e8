from __future__ import annotations

import json
import os

import pytest

from tamiz.console import make_console, note_line, print_json, print_table, printable, printable_line, progress_line


def test_a_table_prints_square_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("path", "score"), [("sub[b].png", 0.5), ("[red]x[/red].png", 1)])
    printed = capsys.readouterr().out
    assert "sub[b].png" in printed
    assert "[red]x[/red].png" in printed


def test_output_that_is_not_a_terminal_is_160_characters_wide(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_console().width == 160
    assert make_console(stderr=True).width == 160


def test_a_json_document_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"model": "größer\n", "images": 2})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"model": "größer\n", "images": 2}


def test_bytes_of_a_file_name_that_are_not_utf_8_are_replaced() -> None:
    assert printable(os.fsdecode(b"\xff.png")) == "\ufffd.png"


def test_control_characters_cannot_change_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("\x1b[31m\x00\x9b\u202e\u2028é中\n") == r"\x1b[31m\x00\x9b\u202e\u2028é中" + "\n"
    assert printable("\ud800") == "\ufffd"
    print_table(("label",), [("\x1b[31mred",)])
    progress_line("\x1b[31m\udcff")
    printed = capsys.readouterr().out
    assert r"\x1b[31mred" in printed
    assert "\x1b" not in printed


def test_a_line_end_in_a_label_does_not_split_a_line_or_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable_line("two\nlines\x1b") == r"two\nlines\x1b"
    print_table(("label",), [("two\nlines",)])
    progress_line("label two\nlines")
    assert capsys.readouterr().out.count(r"two\nlines") == 2
    note_line("label two\nlines")
    assert capsys.readouterr().err == "label two\\nlines\n"
