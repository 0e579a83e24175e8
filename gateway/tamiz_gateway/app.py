"""The application: the routes of the gateway behind its edge."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security

from tamiz import __version__
from tamiz.arguments import check_instance

from .edge import add_edge
from .keys import BEARER, Role, has_keys
from .metrics import Metrics
from .problems import add_handlers
from .routes import explanation, inference, operations, published, training
from .service import Service
from .settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Create the application of one worker, for `run_gateway` or any other ASGI server.

    It connects to the model server with the first request, and follows promotions by itself.

    Args:
        settings: the settings.

    Raises:
        UsageError: ``settings`` is something else.
    """
    check_instance("settings", settings, Settings)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(settings, metrics)
        # What a gateway before this one has left behind.
        service.jobs.recover()
        yield
        await service.close()

    # The pages of FastAPI that show the OpenAPI document load their scripts from another site.
    app = FastAPI(title="Tamiz gateway", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.settings, app.state.metrics = settings, metrics
    # What the OpenAPI document says of keys; the routes check them.
    classify, admin = ([Security(BEARER)] if has_keys(settings, role) else [] for role in (Role.CLASSIFY, Role.ADMIN))
    for router in (published.router, inference.router, explanation.router, operations.router):
        app.include_router(router, dependencies=classify)
    for router in (published.admin_router, training.router):
        app.include_router(router, dependencies=admin)
    app.include_router(operations.open_router)
    add_handlers(app)
    add_edge(app, settings, metrics)
    return app
