"""Failures of several servers: the error of a call names each of them, and why it failed."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import (
    DeadlineError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
    cut,
    list_first,
    one_line,
)

_MOST = 20
"""Largest number of servers that a message names; it also holds the number of the others."""

_LENGTH = 1600
"""Largest length of all reasons in a message, in characters; each server gets an equal share."""

# The request may succeed on another server. What one server rejects, all would reject.
_OF_ONE_SERVER = (DeadlineError, ModelNotFoundError, OverloadedError, UnavailableError)


def reason(error: Exception, url: str) -> str:
    """Why a server failed: a text that names the server, and leaves out what to do."""
    text = one_line(error)
    if isinstance(error, ServerError):
        text = text.removesuffix(error.remedy)
    return text if url in text else f"{url}: {text}"


def name_all(error: ServerError, reasons: Mapping[str, str]) -> ServerError:
    """The error of a call, with the reasons of all servers if it failed because several of them did.

    Args:
        error: the error of the last attempt.
        reasons: the reason for each URL of a server that failed.
    """
    if len(reasons) < 2 or not isinstance(error, _OF_ONE_SERVER):
        return error
    share = _LENGTH // min(len(reasons), _MOST)
    texts = [cut(text, share) for text in list(reasons.values())[:_MOST]]
    message = f"{len(reasons)} servers failed: {list_first(texts, len(reasons), '; ')}"
    return type(error)(message, model=error.model, version=error.version, url=error.url, remedy=error.remedy)
