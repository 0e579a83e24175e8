from __future__ import annotations

import os
from pathlib import Path

import pytest

from tamiz_server.log import failure_reason, last_line, load_failure, mark_restart, stub_failure


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "E1 model.cc:1] \"failed to load 'pets' version 1: Internal: bad graph\"\n"
            "stub: error while loading shared libraries: libx.so: cannot open\n",
            "error while loading shared libraries: libx.so: cannot open",
        ),
        (
            "E1 lifecycle.cc:1] failed to load 'pets' version 1: Internal: bad graph\nbye\n",
            "failed to load 'pets' version 1: Internal: bad graph",
        ),
        ("E1 http.cc:1] bind: Address already in use\nbye\n", "E1 http.cc:1] bind: Address already in use"),
        ("E1 grpc.cc:1] \"Socket '127.0.0.1:1' already in use\"\nbye\n", "Socket '127.0.0.1:1' already in use"),
        ("error: creating server: Internal - no models\nbye\n", "Internal - no models"),
        ('E1 main.cc:1] "Failed to start metrics"\nbye\n', "Failed to start metrics"),
        ("starting\nkilled\n\n", "killed"),
        ("", "the log is empty"),
    ],
)
def test_the_most_specific_reason_in_the_log_is_found(text: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text(text)
    assert failure_reason(log) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "stub: error while loading shared libraries: libx.so: cannot open\nstarting\n",
            "error while loading shared libraries: libx.so: cannot open",
        ),
        ("starting\nbash: line 1: /a/b: No such file or directory\n", "bash: line 1: /a/b: No such file or directory"),
        (
            "bash: -c: line 1: syntax error near unexpected token `('\n",
            "bash: -c: line 1: syntax error near unexpected token `('",
        ),
        (
            "terminate called after throwing an instance of 'std::invalid_argument'\n  what():  stol\nstarting\n",
            "terminate called after throwing an instance of 'std::invalid_argument' what(): stol",
        ),
        ("Fatal Python error: init_fs_encoding: failed\n", "Fatal Python error: init_fs_encoding: failed"),
        ('I1125 08:00:00 server.cc:1] "bash: is not the first word of this line"\n', None),
        ("starting\n", None),
    ],
)
def test_the_message_of_a_stub_that_cannot_start_is_found_while_the_server_still_runs(
    text: str, reason: str | None, tmp_path: Path
) -> None:
    log = tmp_path / "triton.log"
    log.write_text(text)
    assert stub_failure(log) == reason


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert last_line(tmp_path / "missing.log") == "the log is empty"


def test_the_reason_why_a_model_was_not_loaded_is_found_among_those_of_others(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text(
        """E1125 1 manager.cc:1460] "Poll failed for model directory 'ens': ensemble scheduling must be set"
E1125 1 manager.cc:724] "failed to load model 'dogs': at least one version must be available"
E1125 1 lifecycle.cc:642] "failed to load 'cats' version 1: Internal: it has 0 inputs\\n\\nAt:\\n  model.py"
"""
    )
    assert load_failure(log, "ens") == "ensemble scheduling must be set"
    assert load_failure(log, "cats") == "failed to load 'cats' version 1: Internal: it has 0 inputs"
    assert load_failure(log, "dogs") == "at least one version must be available"
    assert load_failure(log, "pets") is None


def test_messages_from_before_a_restart_are_not_read(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text("bash: line 1: old: not found\n")
    mark_restart(log)
    assert last_line(log) == "the log is empty"
    assert stub_failure(log) is None
    with log.open("a") as file:
        file.write("new\n")
    assert last_line(log) == "new"
    assert "old" in log.read_text()


def test_a_log_of_many_gigabytes_is_read_as_fast_as_a_small_one(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.touch()
    os.truncate(log, 64 << 30)
    with log.open("a") as file:
        file.write("\nbash: line 1: old: not found\n")
    assert stub_failure(log) == "bash: line 1: old: not found"
    mark_restart(log)
    assert stub_failure(log) is None
    assert last_line(log) == "the log is empty"
