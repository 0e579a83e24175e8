"""Labels as the text that names a class: in one Unicode form, and in a fixed order."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from tamiz.console import printable
from tamiz.errors import list_first

MAX_NAMES = 5
"""The number of labels, files or problems that a message lists."""


def to_label(text: str) -> str:
    """The label that a text names: the text in Unicode's form NFC, in which equal texts have equal characters.

    macOS and Linux write the same folder name in two forms, such as ``café`` with ``é`` as one or as two characters;
    both are the same label.

    Raises:
        ValueError: the text is a file name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"the name {printable(text)!r} is not UTF-8") from exc
    return unicodedata.normalize("NFC", text)


def in_label_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in their order: integers by value, then all others by name (-1, 2, 10, other)."""

    def key(label: str) -> tuple[int, int, str]:
        integer = label.removeprefix("-").isdecimal() and label.isascii()
        # The label itself is part of the key, because 1 and 01 are different labels.
        return (0, int(label), label) if integer else (1, 0, label)

    return tuple(sorted(set(labels), key=key))


def list_some(names: Sequence[str], separator: str = ", ") -> str:
    """The first names for a message, and the number of the others."""
    return list_first(names[:MAX_NAMES], len(names), separator)
