"""Paths as text in files: the one form of every path, in CSV, JSON lines and Parquet.

A path is bytes to the operating system, and those files hold UTF-8 text. A path whose bytes are UTF-8 is written as it
is. Any other is written percent-encoded after ``file:`` (RFC 3986, section 2.1, and RFC 8089), such as
``file:scans/caf%E9.png``; so is a path that itself begins with ``file:``, so that every text stands for one path.
"""

from __future__ import annotations

import os
from urllib.parse import quote_from_bytes, unquote_to_bytes

_PREFIX = "file:"


def path_to_text(path: str | os.PathLike[str]) -> str:
    """The text of a path, which is valid UTF-8; `text_to_path` gives the path back."""
    name = os.fspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        pass
    else:
        if not name.startswith(_PREFIX):
            return name
    return _PREFIX + quote_from_bytes(os.fsencode(name))


def text_to_path(text: str) -> str:
    """The path that a text from `path_to_text` stands for."""
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_PREFIX))) if text.startswith(_PREFIX) else text
