"""The service of a request, and the replies that the routes describe alike."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from ..service import Service
from ..uploads import MULTIPART


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]
"""A parameter that gets the service of the application."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of the errors of a route."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemReply"}}}
    return {status: {"description": "Problem", "content": content} for status in (*statuses, 401, 403)}


def multipart_body(properties: dict[str, Any], **schema: Any) -> dict[str, Any]:
    """What the OpenAPI document says of a multipart body, which the routes read themselves.

    Args:
        properties: the JSON schema of each field.
        schema: further keys of the JSON schema of the form.
    """
    form = {"type": "object", **schema, "properties": properties}
    return {"requestBody": {"required": True, "content": {MULTIPART: {"schema": form}}}}
