"""Arguments: checks of what callers pass to public functions. A wrong value is a UsageError of one form.

The form is *name: value (type); give what is expected*, such as ``top_k: 'five' (str); give a whole number of 1 or
more``. A value is shown shortened, and only if it is a plain one: the text of an object may be long, or fail.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import Any

from .errors import UsageError, shorten

MAX_SHOWN = 80
"""The number of characters of a value that a message shows."""

_MAX_PATH = 4_096
"""The number of bytes from which Linux refuses a path."""

_MAX_NAME = 255
"""The number of bytes of the longest name of a file or folder; functions such as `Path.is_dir` fail for longer ones."""

_MAX_BITS = 256
"""Larger numbers are not shown: they would fill the message, and Python refuses to print the largest."""


def wrong(name: str, value: object, expected: str, *, secret: bool = False) -> UsageError:
    """The error about a wrong argument.

    Args:
        name: name of the argument.
        value: what was passed.
        expected: what to give instead.
        secret: whether the value may be one that no message may hold, such as a key; its type is shown instead.
    """
    return UsageError(f"{name}: {_show_type(value) if secret else show(value)}; give {expected}")


def show(value: object) -> str:
    """A value for an error message, in at most about `MAX_SHOWN` characters, with its type."""
    if value is None:
        return "None"
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return "a number that is too large (int)"
    if type(value) in (bool, int, float):
        return f"{value!r} ({type(value).__name__})"
    if isinstance(value, str | bytes) and type(value) in (str, bytes):
        # Shortened before it is formatted, so that a large value costs no time.
        return f"{shorten(repr(value[: MAX_SHOWN + 1]), MAX_SHOWN)} ({type(value).__name__})"
    return _show_type(value)


def _show_type(value: object) -> str:
    return f"a value of type {shorten(type(value).__name__, MAX_SHOWN)}"


def show_path(path: os.PathLike[str]) -> str:
    """A path for an error message, on one line: its name may hold line feeds."""
    return os.fspath(path).replace("\n", "\\n")


def check_text(name: str, value: object, expected: str) -> None:
    """Check a name, an address or the like: a string that is not empty and holds only printable characters.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise wrong(name, value, expected)


def check_path(name: str, value: object, expected: str = "a path", *, secret: bool = False) -> None:
    """Check a path: a string or an ``os.PathLike`` of one, which a file system can hold.

    Raises:
        UsageError: it is something else.
    """
    try:
        path = os.fspath(value)  # type: ignore[call-overload]
        encoded = os.fsencode(path)
    except Exception:
        path, encoded = None, b""
    possible = 0 < len(encoded) < _MAX_PATH and all(len(part) <= _MAX_NAME for part in encoded.split(b"/"))
    if not isinstance(path, str) or not possible or b"\0" in encoded:
        raise wrong(name, value, expected, secret=secret)


def check_whole(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Check a whole number; those of NumPy are accepted.

    Raises:
        UsageError: it is something else, or outside of the range.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        wanted = f"of {least} or more" if most is None else f"from {least} to {most:,}"
        raise wrong(name, value, f"a whole number {wanted}")


def check_number(name: str, value: object, expected: str, *, above: float = -math.inf, below: float = math.inf) -> None:
    """Check a number, whole or not, that lies between two others; NaN and the infinities are refused.

    Raises:
        UsageError: it is something else, or outside of the range.
    """
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not above < number < below:
        raise wrong(name, value, expected)


def check_seconds(name: str, value: object) -> None:
    """Check a duration that a thread can wait.

    Raises:
        UsageError: it is not a finite number greater than 0.
    """
    check_number(name, value, "a finite number of seconds greater than 0", above=0, below=threading.TIMEOUT_MAX)


def check_flag(name: str, value: object) -> None:
    """Check that a value is True or False.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, bool):
        raise wrong(name, value, "True or False")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check that a value is one of some strings.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise wrong(name, value, " or ".join(map(repr, choices)))


def check_type(name: str, value: object, kind: type[Any] | tuple[type[Any], ...], expected: str) -> None:
    """Check that a value is of a type.

    Raises:
        UsageError: it is of another one.
    """
    if not isinstance(value, kind):
        raise wrong(name, value, expected)


def check_list(name: str, value: object, expected: str) -> None:
    """Check a list or another sequence; a string or bytes, whose items are characters, is refused.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise wrong(name, value, expected)


def check_instance(name: str, value: object, kind: type[Any], *, optional: bool = False) -> None:
    """Check that a value is an object of a class of Tamiz, or None where it is optional.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(value, kind) and not (optional and value is None):
        expected = f"a {kind.__module__.partition('.')[0]}.{kind.__name__}"
        raise wrong(name, value, f"{expected}, or None" if optional else expected)


def check_function(name: str, value: object, expected: str) -> None:
    """Check that a value can be called.

    Raises:
        UsageError: it cannot.
    """
    if not callable(value):
        raise wrong(name, value, expected)


def check_progress(on_progress: object) -> None:
    """Check a function that reports progress.

    Raises:
        UsageError: it cannot be called.
    """
    check_function("on_progress", on_progress, "a function that takes a line of text")
