"""Trace context: the headers that connect a request of the gateway with its requests to Triton (W3C Trace Context)."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

_PARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")


@dataclass(frozen=True)
class Trace:
    """What identifies a request.

    Attributes:
        request_id: the caller's ``X-Request-ID``, or a new one; it is in the reply and in the access log.
        trace_id: the caller's trace, or a new one; 32 hexadecimal digits.
        span_id: the gateway's part of the trace; 16 hexadecimal digits.
        parent_id: the caller's part of the trace; empty if it sent none.
        flags: the caller's flags; 2 hexadecimal digits.
        state: the caller's ``tracestate``; empty if it sent none.
    """

    request_id: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    flags: str = "00"
    state: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the requests to Triton."""
        sent = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{self.flags}", "x-request-id": self.request_id}
        return sent | ({"tracestate": self.state} if self.state else {})


def read_trace(headers: Mapping[str, str]) -> Trace:
    """The trace of a request. What the caller sent in another form is replaced.

    Args:
        headers: headers of the request, with names in lower case.
    """
    given = headers.get("x-request-id", "")
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    span_id = secrets.token_hex(8)
    parent = _PARENT.fullmatch(headers.get("traceparent", ""))
    if parent is None:
        return Trace(request_id, secrets.token_hex(16), span_id)
    state = headers.get("tracestate", "")
    return Trace(request_id, parent[1], span_id, parent[2], parent[3], state if _STATE.fullmatch(state) else "")


current: ContextVar[Trace | None] = ContextVar("current", default=None)
"""The trace of the request that the running task handles."""


def triton_headers() -> dict[str, str]:
    """The headers of a request to Triton, for ``AsyncClient(headers=…)``; none outside of a request."""
    trace = current.get()
    return {} if trace is None else trace.headers
