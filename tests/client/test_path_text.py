from __future__ import annotations

import os

import pytest

from tamiz.path_text import path_to_text, text_to_path


@pytest.mark.parametrize("path", ["scans/café 100%.png", "a\\xff.png", "http://x", "a\nb", "文.png", ""])
def test_a_path_in_utf_8_is_its_own_text(path: str) -> None:
    assert path_to_text(path) == path
    assert text_to_path(path) == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param(b"scans/caf\xe9 1.png", "file:scans/caf%E9%201.png", id="Latin-1"),
        pytest.param(b"\xff%41.png", "file:%FF%2541.png", id="percent sign"),
        pytest.param(b"file:x.png", "file:file%3Ax.png", id="the prefix itself"),
        pytest.param(b"/\xf0\x9f/\n", "file:/%F0%9F/%0A", id="cut character"),
    ],
)
def test_any_other_path_is_percent_encoded_and_comes_back(path: bytes, text: str) -> None:
    name = os.fsdecode(path)
    assert path_to_text(name) == text
    assert os.fsencode(text_to_path(text)) == path
