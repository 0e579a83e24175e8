"""Classification of the images of one request, through the client and within the request's deadline."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeAlias

from fastapi import Request

from tamiz import AsyncClient, Prediction
from tamiz.errors import DeadlineError, InvalidImageError

from .multipart import Upload
from .problems import Problem
from .settings import Settings
from .uploads import find_invalid

Outcome: TypeAlias = Prediction | InvalidImageError

TIMEOUT_HEADER = "x-request-timeout"
"""Header with the seconds that the caller will wait; the gateway's own limit holds as well."""

_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?")
_INSPECTED_INLINE = 1024 * 1024
"""Bytes of images whose headers are read in the event loop; more than that would delay other requests."""


def read_deadline(request: Request, settings: Settings) -> float:
    """The time by the monotonic clock at which a request must have been answered.

    Raises:
        Problem: 400 if the header is not a number of seconds above 0.
    """
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return time.monotonic() + settings.timeout_s
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        raise Problem(400, f"{TIMEOUT_HEADER}: give a number of seconds above 0, such as 2.5")
    return time.monotonic() + min(float(text), settings.timeout_s)


async def classify(
    client: AsyncClient, uploads: Sequence[Upload], settings: Settings, *, top_k: int, deadline: float
) -> AsyncIterator[Outcome]:
    """Classify images, and yield the outcome of each as soon as it and those before it are known.

    Args:
        client: the client of the model.
        uploads: the images.
        settings: the settings of the gateway.
        top_k: number of labels in each `tamiz.Prediction.top`.
        deadline: time by the monotonic clock at which the last one must be there.

    Raises:
        ServerError: the server did not answer; see the subclasses. After the deadline it is a DeadlineError.
        SpecError: the model has no spec that the client understands.
    """
    found = await _inspect(uploads, settings)
    images = [upload.content for upload, invalid in zip(uploads, found, strict=True) if invalid is None]
    if len(images) < 2:
        for upload, invalid in zip(uploads, found, strict=True):
            yield invalid or await _classify_one(client, upload, top_k, deadline)
        return
    outcomes = client.classify_many(images, top_k=top_k, on_error="return")
    async with aclosing(outcomes):
        for invalid in found:
            if invalid is not None:
                yield invalid
                continue
            try:
                async with asyncio.timeout(_time_left(deadline)):
                    outcome = await anext(outcomes)
            except TimeoutError as exc:
                raise DeadlineError("the images were not classified in time") from exc
            yield outcome


async def _classify_one(client: AsyncClient, upload: Upload, top_k: int, deadline: float) -> Outcome:
    try:
        return await client.classify(upload.content, top_k=top_k, timeout_s=_time_left(deadline))
    except InvalidImageError as exc:
        return exc


async def _inspect(uploads: Sequence[Upload], settings: Settings) -> list[InvalidImageError | None]:
    def inspect() -> list[InvalidImageError | None]:
        return [find_invalid(upload, settings) for upload in uploads]

    if sum(len(upload.content) for upload in uploads) <= _INSPECTED_INLINE:
        return inspect()
    return await asyncio.to_thread(inspect)


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineError("the time of the request has passed")
    return left
