"""The routes for those who run the gateway: health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from ..keys import ClassifyRoute
from ..problems import RETRY_AFTER_S, Problem
from ..schemas import HealthReply
from .service_of import ServiceOf, problems

open_router = APIRouter(tags=["operations"])
router = APIRouter(route_class=ClassifyRoute, tags=["operations"])


@open_router.get("/healthz", response_model=HealthReply)
async def healthz() -> HealthReply:
    """Answer as long as the gateway itself works; no key is needed."""
    return HealthReply(status="ok")


@open_router.get("/readyz", response_model=HealthReply, responses=problems(503))
async def readyz(service: ServiceOf) -> HealthReply:
    """Answer whether Triton serves the live version of the gateway's model; no key is needed."""
    if reason := await service.ready():
        raise Problem(503, reason, error="UnavailableError", headers={"retry-after": str(RETRY_AFTER_S)})
    return HealthReply(status="ok")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **problems()})
def metrics(service: ServiceOf) -> Response:
    """Return the Prometheus metrics of all workers."""
    return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
