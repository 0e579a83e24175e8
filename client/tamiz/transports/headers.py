"""Headers that travel with every request, over gRPC (as metadata) and HTTP alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..arguments import show, wrong
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
    read = headers() if callable(headers) else headers
    if read is None:
        return {}
    if not isinstance(read, Mapping):
        raise wrong("headers", read, "a dict of names and values, or a function that returns one")
    for name, value in read.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise wrong("headers", name, "names of letters, digits and -_.")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise UsageError(f"headers: the value of {show(name)} is not a string of printable ASCII characters")
    return read


def check_key(key: object) -> None:
    """Check the key of Triton's restricted protocols, which travels as a header.

    Raises:
        UsageError: gRPC and HTTP cannot carry it. The message never holds the key.
    """
    if not isinstance(key, str) or not _VALUE.fullmatch(key):
        raise wrong("key", key, "a string of printable ASCII characters", secret=True)


def with_key(headers: Headers, name: str, key: str) -> Headers:
    """The same headers and the key of Triton's restricted protocols, under the given header name."""
    return lambda: {**read_headers(headers), name: key}
