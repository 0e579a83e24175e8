"""The edge of the gateway: what happens to every request before and after its route.

It gives the request an identity, refuses it if too many are being handled, limits its body while that arrives, answers
what nobody else answered, and logs and counts the reply. Plain ASGI, so that bodies and replies stream through it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamiz.json_text import to_json

from . import trace
from .metrics import Metrics
from .problems import Problem, overloaded
from .settings import Settings, is_loopback

logger = logging.getLogger("tamiz_gateway")
access_log = logging.getLogger("tamiz_gateway.access")

ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are answered however many requests are being handled."""


class Edge:
    """The middleware.

    Args:
        app: the application behind it.
        settings: the settings of the gateway.
        metrics: counts the requests.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._in_flight = 0
        self._buffered = Buffered(settings)
        self._local_only = settings.classify_key is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = _read_headers(scope)
        request_trace = trace.read_trace(headers)
        token = trace.current.set(request_trace)
        body = Body(receive, self._buffered, self._settings)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = [*message["headers"], (b"x-request-id", request_trace.request_id.encode())]
                message = {**message, "headers": named}
            await send(message)

        counted = scope["path"] not in ALWAYS_ANSWERED
        self._count(counted)
        try:
            problem = self._refuse(scope, headers, counted=counted)
            if problem is None:
                await self._app(scope, body.receive, send_named)
            else:
                scope["tamiz.error"] = f"{problem.error}: {problem.detail}"
                await problem.to_response()(scope, receive, send_named)
        except ClientDisconnect:
            scope["tamiz.error"] = "the caller went away"
        except Exception as exc:
            logger.exception("request %s failed", request_trace.request_id)
            scope["tamiz.error"] = f"{type(exc).__name__}: {exc}"
            if not status:
                failure = Problem(500, "the gateway failed; its log has the reason", error="InternalError")
                await failure.to_response()(scope, receive, send_named)
        finally:
            self._count(counted, -1)
            body.release()
            trace.current.reset(token)
            self._record(scope, request_trace, status, body.received, time.perf_counter() - began)

    def _count(self, counted: bool, more: int = 1) -> None:
        if counted:
            self._in_flight += more
            self._metrics.set_in_flight(self._in_flight)

    def _refuse(self, scope: Scope, headers: dict[str, str], *, counted: bool) -> Problem | None:
        """Why a request is refused before its body is read; None if it is not."""
        # Otherwise a web page could call the gateway under a name of its own that points to the loopback interface.
        if self._local_only and not is_loopback(_host(headers.get("host", "localhost"))):
            return Problem(400, "this gateway has no key, so it answers only to the names of the loopback interface")
        if counted and self._in_flight > self._settings.max_requests:
            return overloaded(f"the gateway handles {self._settings.max_requests} requests already; try again")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._settings.max_body_bytes:
            return too_large(self._settings)
        return None

    def _record(self, scope: Scope, request: trace.Trace, status: int, received: int, seconds: float) -> None:
        # The pattern of the route, so that the paths of callers do not make new series.
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._metrics.record_request(route, method, status, seconds)
        client = scope.get("client")
        entry: dict[str, Any] = {
            "time": time.time(),
            "request_id": request.request_id,
            "trace_id": request.trace_id,
            "span_id": request.span_id,
            "parent_id": request.parent_id or None,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            # 499 as others log it: the caller went away before the reply began.
            "status": status or 499,
            "seconds": round(seconds, 6),
            "bytes": received,
            "images": scope.get("tamiz.images"),
            "error": scope.get("tamiz.error"),
        }
        access_log.info(to_json({name: value for name, value in entry.items() if value is not None}))


class Buffered:
    """The bytes of bodies that a worker holds.

    Args:
        settings: the settings of the gateway.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = settings.max_buffered_bytes
        self._held = 0

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            Problem: 429 if the limit is reached.
        """
        if self._held + size > self._most:
            raise overloaded("the gateway holds too many images already; try again")
        self._held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self._held -= size


class Body:
    """The body of a request, limited in size and time while it arrives.

    Args:
        receive: the ASGI function that receives the body.
        buffered: counts the bytes of all bodies.
        settings: the settings of the gateway.

    Attributes:
        received: number of bytes that arrived.
    """

    def __init__(self, receive: Receive, buffered: Buffered, settings: Settings) -> None:
        self.received = 0
        self._receive = receive
        self._buffered = buffered
        self._settings = settings
        self._deadline = time.monotonic() + settings.body_timeout_s
        self._complete = False

    async def receive(self) -> Message:
        """The next message of the request.

        Raises:
            Problem: 408 if the body takes too long, 413 if it is too large, 429 if too many are held.
        """
        if self._complete:
            # What comes now is that the caller goes away, for which the application may wait as long as it wants.
            return await self._receive()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            seconds = self._settings.body_timeout_s
            raise Problem(408, f"the body did not arrive within {seconds:g} s", error="DeadlineError") from None
        size = len(message.get("body", b""))
        if self.received + size > self._settings.max_body_bytes:
            raise too_large(self._settings)
        self._buffered.take(size)
        self.received += size
        self._complete = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """Note that the body is not held any more."""
        self._buffered.give_back(self.received)


def too_large(settings: Settings) -> Problem:
    """The problem of a body that is too large."""
    return Problem(413, f"the body is too large; the limit is {settings.max_body_bytes} bytes", error="UsageError")


def add_edge(app: FastAPI, settings: Settings, metrics: Metrics) -> None:
    """Put the edge in front of an application."""
    app.add_middleware(Edge, settings=settings, metrics=metrics)


def _read_headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _host(header: str) -> str:
    """The host in a header ``Host``, without the port."""
    return header.partition("]")[0] if header.startswith("[") else header.partition(":")[0]
