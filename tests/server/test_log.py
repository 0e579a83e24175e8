from __future__ import annotations

from pathlib import Path

import pytest

from tamiz_server.log import failure_reason, last_line, missing_library


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


def test_a_missing_library_is_found_while_the_server_still_runs(tmp_path: Path) -> None:
    log = tmp_path / "triton.log"
    log.write_text("stub: error while loading shared libraries: libx.so: cannot open\nstarting\n")
    assert missing_library(log) == "error while loading shared libraries: libx.so: cannot open"
    log.write_text("starting\n")
    assert missing_library(log) is None


def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert last_line(tmp_path / "missing.log") == "the log is empty"
