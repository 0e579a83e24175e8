"""Headers that travel with every request, over gRPC (as metadata) and HTTP alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..errors import UsageError

Headers: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]] | None
"""Headers sent with every request, or a function that returns them for each request, as tracing needs."""

_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")


def read_headers(headers: Headers) -> Mapping[str, str]:
    """The headers of the next request.

    Raises:
        UsageError: gRPC and HTTP cannot carry a name or a value. The message never holds the value, which may be
            secret.
    """
    read = (headers() if callable(headers) else headers) or {}
    if not isinstance(read, Mapping):
        raise UsageError(
            f"headers: a {type(read).__name__}; give a dict of names and values, or a function that returns one"
        )
    for name, value in read.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"headers: {name!r}; a name consists of letters, digits and -_.")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise UsageError(f"headers: the value of {name!r} is not a string of printable ASCII characters")
    return read


def with_key(headers: Headers, name: str, key: str) -> Headers:
    """The same headers and the key of Triton's restricted protocols, under the given header name."""
    return lambda: {**read_headers(headers), name: key}
