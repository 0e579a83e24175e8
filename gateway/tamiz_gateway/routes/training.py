"""The routes of training jobs."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from ..keys import AdminRoute
from ..training.jobs import ENDED
from ..training.schemas import TrainReply, TrainRequest
from .service_of import ServiceOf, problems

router = APIRouter(route_class=AdminRoute, tags=["published contract"])

WAIT_S = 0.5
"""Seconds after which a waiting request looks again whether its job has ended."""

JobId = Annotated[str, Path(max_length=100, description="Id of the job.")]


@router.post(
    "/train",
    response_model=TrainReply,
    response_model_exclude_none=True,
    responses={
        202: {"description": "The job is queued.", "model": TrainReply},
        **problems(400, 408, 413, 422, 429, 503),
    },
)
async def train(
    training: TrainRequest,
    service: ServiceOf,
    response: Response,
    wait: Annotated[bool, Query(description="Whether to answer when the job has ended.")] = False,
) -> TrainReply:
    """Train on images below the data folder of the gateway, and publish the result without promoting it.

    Jobs run one at a time, each in a process of its own that outlives the gateway. The answer comes at once, with
    status 202, unless it is to wait.
    """
    job = await asyncio.to_thread(service.jobs.add, training)
    while True:
        document = await asyncio.to_thread(service.jobs.describe, job)
        if not wait or document["status"] in ENDED:
            break
        await asyncio.sleep(WAIT_S)
    response.status_code = 200 if wait else 202
    return TrainReply.model_validate(document)


@router.get(
    "/train/{training_id}",
    response_model=TrainReply,
    response_model_exclude_none=True,
    responses=problems(404, 422, 503),
)
def describe_training(training_id: JobId, service: ServiceOf) -> TrainReply:
    """Return the state of a training job, its progress, the end of its log, and its result."""
    return TrainReply.model_validate(service.jobs.describe(training_id))


@router.delete(
    "/train/{training_id}",
    status_code=202,
    response_model=TrainReply,
    response_model_exclude_none=True,
    responses=problems(404, 409, 422, 503),
)
def cancel_training(training_id: JobId, service: ServiceOf) -> TrainReply:
    """Cancel a training job that waits or runs."""
    service.jobs.cancel(training_id)
    return TrainReply.model_validate(service.jobs.describe(training_id))
