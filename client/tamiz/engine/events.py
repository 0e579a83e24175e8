"""Events of a call: the requests that a client sends, their replies, failures and retries; for tracing, metrics, tests.

``Client(…, on_event=function)`` calls the function with each event, in the thread that carries out the call, so it must
return quickly; with a `ShadowCompared` in another thread. An exception that it raises is logged and does not fail the
call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import ServerError
from .recovery import Cause

logger = logging.getLogger("tamiz")


@dataclass(frozen=True, slots=True)
class _RequestEvent:
    """What the events of a request have in common.

    Attributes:
        call: number of the call that the request belongs to, unique in the process.
        url: URL of the server.
        method: method of Triton's gRPC service, such as ``ModelInfer``.
        model: name of the requested model; empty where the request names none.
        version: the requested version; None where the request names none.
        images: number of images in the request.
    """

    call: int
    url: str
    method: str
    model: str
    version: int | None
    images: int


@dataclass(frozen=True, slots=True)
class RequestSent(_RequestEvent):
    """A request is about to be sent.

    Attributes:
        timeout_s: seconds until the request fails with a DeadlineError.
    """

    timeout_s: float


@dataclass(frozen=True, slots=True)
class RequestAnswered(_RequestEvent):
    """A request was answered.

    Attributes:
        seconds: from sending the request to its reply.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class RequestFailed(_RequestEvent):
    """A request failed.

    Attributes:
        seconds: from sending the request to its failure.
        error: why it failed.
    """

    seconds: float
    error: Exception


@dataclass(frozen=True, slots=True)
class CallRetried:
    """A call will be tried again after a failed attempt.

    Attributes:
        call: number of the call, unique in the process.
        url: URL of the server of the failed attempt.
        error: why the attempt failed.
        cause: which counter of `Stats` counts the retry.
        attempt: number of the failed attempt, from 1.
        wait_s: seconds until the next attempt.
    """

    call: int
    url: str
    error: ServerError
    cause: Cause
    attempt: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class ShadowCompared:
    """The candidate of a rollout was sent the images of a call as well; comes after the call has returned.

    Attributes:
        call: number of the call, unique in the process.
        url: URL of the server.
        model: name of the model.
        version: version of the candidate.
        live_version: version that answered the call.
        images: number of images.
        agreements: number of images that both versions gave the same labels.
        seconds: from sending the request to the candidate to its reply or failure.
        live_seconds: the same of the request to the live version.
        error: why the candidate did not answer; None if it did.
    """

    call: int
    url: str
    model: str
    version: int
    live_version: int
    images: int
    agreements: int
    seconds: float
    live_seconds: float
    error: Exception | None


CallEvent: TypeAlias = RequestSent | RequestAnswered | RequestFailed | CallRetried | ShadowCompared
OnEvent: TypeAlias = Callable[[CallEvent], None]


def notify(on_event: OnEvent, event: CallEvent) -> None:
    """Call the user's function with an event."""
    try:
        on_event(event)
    except Exception:
        logger.exception("on_event: the function failed on %r", event)
