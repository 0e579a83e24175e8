"""Problems: every error is answered with the right status and a document of RFC 9457, ``application/problem+json``."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from tamiz import errors
from tamiz.json_text import to_json

logger = logging.getLogger("tamiz_gateway")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""Seconds after which a caller may try again, where the server is full or away for a moment."""

MAX_PROBLEMS = 20
"""The most problems of a body that one reply lists."""


class Problem(HTTPException):
    """An error that becomes the reply to a request.

    Args:
        status: status of the reply.
        detail: what is wrong and what to do, in one line.
        error: class of the error, for programs.
        headers: further headers of the reply.
        more: further members of the document.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        error: str = "UsageError",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(status, detail, headers)
        self.error = error
        self.more = more

    def to_dict(self) -> dict[str, Any]:
        """The document."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status_code).phrase,
            "status": self.status_code,
            "detail": self.detail,
            "error": self.error,
            **self.more,
        }

    def to_response(self) -> Response:
        """The reply."""
        return Response(to_json(self.to_dict()), self.status_code, self.headers, MEDIA_TYPE)


def overloaded(detail: str) -> Problem:
    """The problem of a request that is refused because too many others are being handled."""
    return Problem(429, detail, error="OverloadedError", headers={"retry-after": str(RETRY_AFTER_S)})


# The first class that matches decides. Details of what goes on behind the gateway are for its log, not for callers.
_STATUS: tuple[tuple[type[errors.TamizError], int, str], ...] = (
    (errors.InvalidImageError, 422, ""),
    (errors.OverloadedError, 429, "the model server is full; try again"),
    (errors.DeadlineError, 504, "the model server did not answer in time"),
    (errors.UnavailableError, 503, "the model server does not answer; try again"),
    (errors.ModelNotFoundError, 503, "the model server has not loaded the model; try again"),
    (errors.ClosedError, 503, "the gateway is shutting down; try again"),
    (errors.RepositoryError, 503, "the model repository cannot be used"),
    (errors.MissingExtraError, 501, ""),
    (errors.UsageError, 400, ""),
    (errors.TamizError, 502, "the model server failed"),
)


def problem_of(exc: errors.TamizError) -> Problem:
    """The problem of an error of Tamiz."""
    status, detail = next((status, detail) for kind, status, detail in _STATUS if isinstance(exc, kind))
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return Problem(status, detail or str(exc), error=type(exc).__name__, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Have an application answer each error with its problem."""
    app.add_exception_handler(errors.TamizError, _answer_tamiz)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_invalid)


async def _answer_tamiz(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, errors.TamizError)
    problem = problem_of(exc)
    request.scope["tamiz.error"] = f"{type(exc).__name__}: {exc}"
    return problem.to_response()


async def _answer_http(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if not isinstance(exc, Problem):
        exc = Problem(exc.status_code, str(exc.detail), headers=dict(exc.headers or {}))
    request.scope["tamiz.error"] = f"{exc.error}: {exc.detail}"
    return exc.to_response()


async def _answer_invalid(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    problem = invalid(list(exc.errors()))
    request.scope["tamiz.error"] = f"{problem.error}: {problem.detail}"
    return problem.to_response()


def invalid(found: list[Any]) -> Problem:
    """The problem of a body or parameters that pydantic rejected: 400 for what is no JSON, otherwise 422.

    Args:
        found: what ``ValidationError.errors()`` returns.
    """
    if any(error["type"] == "json_invalid" for error in found):
        return Problem(400, "the body is not JSON")
    problems = [
        {"pointer": "/" + "/".join(map(str, error["loc"])), "detail": _printable(error["msg"])}
        for error in found[:MAX_PROBLEMS]
    ]
    first = problems[0]
    return Problem(422, f"{first['pointer']}: {first['detail']}", errors=problems)


def _printable(text: str) -> str:
    """A text that JSON in UTF-8 can hold, whatever the caller sent."""
    return json.dumps(text)[1:-1] if not text.isprintable() else text
