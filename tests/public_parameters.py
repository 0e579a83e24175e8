"""The parameters of a package's public functions and classes, and values that callers pass to them by mistake."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import Any

import numpy as np
import pytest

from tamiz import TamizError, UsageError

MAX_CHARACTERS = 600


class Unprintable:
    """An object that cannot be shown, and is no path although it says so."""

    def __repr__(self) -> str:
        raise RuntimeError("cannot be shown")

    def __fspath__(self) -> str:
        raise RuntimeError("has no path")


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2.5, math.nan, math.inf, 2**70, 10**5000),
    *("", "x" * 300, "x" * 200_000, "caf\udce9", "a\0b", "a\nb", b"\xff", b"x" * 200_000, bytearray(b"x")),
    *([], {}, (), set(), ["a"], {"a": 1}, object(), int, Unprintable()),
    *(np.zeros((2, 2)), np.array(3), np.float32(0.5), np.int64(3), np.str_("a")),
)
"""Values of every kind. A function either takes one or refuses it with an error of Tamiz."""


def public_parameters(package: str, *, records: Collection[str]) -> set[str]:
    """Names such as ``Client.classify.top_k`` of all parameters of the names in ``__all__``.

    Args:
        package: the package.
        records: classes whose objects Tamiz makes and callers only read; their constructors check nothing.
    """
    module = importlib.import_module(package)
    found: set[str] = set()
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value):
            found.update(f"{name}.{parameter}" for parameter in _parameters(value))
        elif inspect.isclass(value) and not issubclass(value, TamizError | Enum):
            if name not in records:
                found.update(f"{name}.{parameter}" for parameter in _parameters(value))
            for method, function in _public_methods(value):
                found.update(f"{name}.{method}.{parameter}" for parameter in _parameters(function))
            found.update(f"{name}.{settable}" for settable in _settable_properties(value))
    return found


def check_refused(call: Callable[..., Any], parameter: str, value: object) -> None:
    """Check that a call refuses a wrong value with a short `UsageError` that names the parameter."""
    with pytest.raises(UsageError, match=rf"\b{parameter}\b") as caught:
        call(**{parameter: value})
    check_message(caught.value)


def check_accepted_or_refused(
    call: Callable[..., Any], parameter: str, value: object, allowed: tuple[type[TamizError], ...] = ()
) -> None:
    """Check that a call with any value raises nothing but a short `UsageError`, or one of the allowed errors."""
    expected: tuple[type[TamizError], ...] = (UsageError, *allowed)
    try:
        call(**{parameter: value})
    except expected as exc:
        check_message(exc)


def check_message(error: Exception) -> None:
    """Check that a message is one printable line of bounded length."""
    message = str(error)
    assert len(message) <= MAX_CHARACTERS, message[:MAX_CHARACTERS]
    assert "\n" not in message
    message.encode()


def _parameters(function: Callable[..., Any]) -> list[str]:
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]


def _public_methods(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in _public_attributes(kind):
        function = value.__func__ if isinstance(value, classmethod) else value
        if inspect.isfunction(function):
            yield name, getattr(kind, name)


def _settable_properties(kind: type) -> Iterator[str]:
    return (name for name, value in _public_attributes(kind) if isinstance(value, property) and value.fset)


def _public_attributes(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        if base.__module__.startswith("tamiz"):
            yield from ((name, value) for name, value in vars(base).items() if not name.startswith("_"))
