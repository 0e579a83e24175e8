"""Keys: who may call which route. Routers take a class of routes here, which checks the key before a body is read."""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from .problems import Problem
from .settings import Settings

BEARER = HTTPBearer(auto_error=False, description="Key of the gateway, if it has one.")
"""What the OpenAPI document says about keys; the check itself is that of the routes."""


class Role(enum.StrEnum):
    """What a key allows.

    Attributes:
        CLASSIFY: to classify images, and to look at models and figures.
        ADMIN: to train, and to change which version is live, as well.
    """

    CLASSIFY = "classify"
    ADMIN = "admin"


def check_key(settings: Settings, role: Role, authorization: str) -> None:
    """Check the header ``Authorization`` of a request; keys are compared in constant time.

    Raises:
        Problem: 401 if the key is missing or wrong, 403 if it does not have the role.
    """
    if not has_keys(settings, role):
        return
    scheme, _, given = authorization.partition(" ")
    given = given.strip() if scheme.lower() == "bearer" else ""
    admin, classify = _equal(given, settings.admin_key), _equal(given, settings.classify_key)
    if admin or (classify and role is Role.CLASSIFY):
        return
    if classify:
        remedy = "use the admin key" if settings.admin_key else "this gateway has no admin key, so nobody may"
        raise Problem(403, f"access denied: the key does not allow this; {remedy}", error="AccessError")
    raise Problem(
        401,
        "access denied: missing or wrong key; send the header Authorization: Bearer KEY",
        error="AccessError",
        headers={"www-authenticate": "Bearer"},
    )


def has_keys(settings: Settings, role: Role) -> bool:
    """Whether a role needs a key."""
    return settings.classify_key is not None or (role is Role.ADMIN and settings.admin_key is not None)


def _equal(given: str, key: SecretStr | None) -> bool:
    expected = "" if key is None else key.get_secret_value()
    return hmac.compare_digest(given.encode(), expected.encode()) and key is not None


class ClassifyRoute(APIRoute):
    """A route for those who have the key to classify, or the admin key."""

    role: ClassVar[Role] = Role.CLASSIFY

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route, after the check of the key."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            check_key(request.app.state.settings, self.role, request.headers.get("authorization", ""))
            return await handle(request)

        return checked


class AdminRoute(ClassifyRoute):
    """A route for those who have the admin key."""

    role: ClassVar[Role] = Role.ADMIN
