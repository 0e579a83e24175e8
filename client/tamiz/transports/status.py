"""Translates failed requests into errors of `tamiz.errors`, in the same way for gRPC and HTTP.

Triton's status codes do not distinguish its failures: ``UNAVAILABLE`` stands for a full queue, a version that was
unloaded, a missing key, and a server that does not answer. Only the message text does.
"""

from __future__ import annotations

from typing import Any

from ..errors import (
    AccessError,
    DeadlineError,
    InferenceError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from .proxy import is_loopback
from .requests import Request

_PORT_OPTIONS = {"grpc": ("--grpc-port", "8001"), "dns": ("--grpc-port", "8001"), "http": ("--http-port", "8000")}
"""The option of `tamiz serve` for the port of each scheme, and its default."""


class RegionNotRegisteredError(InvalidRequestError):
    """The server does not know the shared-memory region of a request, or cannot open it."""


class RegionRegisteredError(InvalidRequestError):
    """The server has a shared-memory region of that name already."""


class ExpiredError(DeadlineError):
    """The server found by its own clock that the deadline of a request had passed, and did not compute it."""


def make_error(
    kind: type[ServerError], text: str, *, status: str, request: Request[Any], url: str, if_missing: str = ""
) -> ServerError:
    """The error that a failed request means.

    Args:
        kind: what the status code of the protocol means by itself.
        text: the message of the server, or of the library that carried the request.
        status: name of the status code; shown when the failure has no more specific class than InferenceError.
        request: the failed request.
        url: URL of the server.
        if_missing: what to do if no server answers at the URL; empty if nobody knows.
    """
    remedy = ""
    if request.model:
        version = "" if request.version is None else f" version {request.version}"
        what = f"model {request.model}{version}"
    else:
        what = request.method
    if kind is DeadlineError:
        message = f"{what}: {url} did not answer in time"
    elif "deadline of the request has passed" in text:
        kind, message = ExpiredError, f"{what}: {url} did not answer in time: {text}"
    elif "already in manager" in text:
        kind, message = RegionRegisteredError, f"{what}: {url}: {text}"
    elif "shared memory region" in text:
        kind, message = RegionNotRegisteredError, f"{what}: {url}: {text}"
    elif kind is ModelNotFoundError or "is not at ready state" in text:
        kind, message = ModelNotFoundError, f"{what} is not on {url}: {text}"
    elif "handshake failed" in text or "verification check failed" in text:
        kind, message = AccessError, f"{what}: no encrypted connection to {url}: {text}"
    elif "is restricted, expecting header" in text:
        # Triton's text names a header, which is not how a key is given here.
        kind, message = AccessError, f"{what}: {url} denied access: the key is missing or wrong"
        remedy = "; give the key that `tamiz serve` prints, by --key, TAMIZ_KEY or the argument key"
    elif kind is AccessError:
        message = f"{what}: {url} denied access{text and f': {text}'}"
    elif "larger than max" in text:
        kind, message = InvalidRequestError, f"{what}: a message to or from {url} is too large: {text}"
    elif kind is OverloadedError or "Exceeds maximum queue size" in text:
        kind, message = OverloadedError, f"{what}: the queue of {url} is full: {text}"
    elif kind is UnavailableError and "Request timeout expired" in text:
        kind, message = OverloadedError, f"{what}: the request waited too long in the queue of {url}: {text}"
    elif "Stub process" in text and "is not healthy" in text:
        # The Python backend: the process of one instance died, or stood still for a second. Other instances may work.
        kind, message = UnavailableError, f"{what}: {url} lost the process of an instance: {text}"
    elif kind is UnavailableError:
        message, remedy = f"no server answers at {url}: {text}", if_missing
    elif kind is InvalidRequestError:
        message = f"{what}: {url} rejected the request: {text}"
    else:
        kind, message = InferenceError, f"{what} failed on {url}: {status}: {text}"
    return kind(message, model=request.model, version=request.version, url=url, remedy=remedy)


def how_to_start(url: str) -> str:
    """The end of a message about a server that does not answer: how to start one, if it is on this machine.

    Args:
        url: URL of one server.
    """
    scheme, _, target = url.partition("://")
    if not is_loopback(url) or scheme not in _PORT_OPTIONS:
        return "; check the URL, and that the server is running"
    option, default = _PORT_OPTIONS[scheme]
    port = target.rpartition(":")[2]
    return f"; start one with `tamiz serve{'' if port == default else f' {option} {port}'}`"
