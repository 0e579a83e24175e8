"""The routes of the published document classifier, kept to the field."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from tamiz import Prediction
from tamiz.errors import RepositoryError
from tamiz_server import Version

from ..classification import Outcome, classify, read_deadline
from ..keys import AdminRoute, ClassifyRoute
from ..multipart import Upload
from ..performance import read_metrics, read_performance
from ..problems import Problem
from ..schemas import (
    AvailableModel,
    ClassifyReply,
    FileResult,
    ModelsReply,
    MonitorReply,
    PerformanceReply,
    SwitchReply,
    SwitchRequest,
)
from ..service import Service
from ..uploads import MULTIPART, body_kind, check_count, receive_form
from .service_of import ServiceOf, multipart_body, problems

router = APIRouter(route_class=ClassifyRoute, tags=["published contract"])
admin_router = APIRouter(route_class=AdminRoute, tags=["published contract"])

_ALL_LABELS = 2**31
_FLAGS = {**dict.fromkeys(("true", "1", "yes", "on"), True), **dict.fromkeys(("false", "0", "no", "off", ""), False)}
_FORM = multipart_body(
    {
        "file": {"type": "string", "format": "binary", "description": "One image file."},
        "files": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "format": "binary"},
            "description": "Several image files.",
        },
        "return_probabilities": {
            "type": "boolean",
            "description": "Whether to return the probability of every label.",
        },
    },
    anyOf=[{"required": ["file"]}, {"required": ["files"]}],
)


@router.post(
    "/classify",
    response_model=ClassifyReply,
    response_model_exclude_none=True,
    responses=problems(400, 408, 413, 415, 422, 429, 502, 503, 504),
    openapi_extra=_FORM,
)
async def classify_files(request: Request, service: ServiceOf) -> ClassifyReply:
    """Classify one or several image files.

    A file that cannot be read is an error in its result, and the others are answered. If none can be read, the reply
    is a problem with status 422 that has the ``results`` too.
    """
    began, deadline = time.perf_counter(), read_deadline(request, service.settings)
    if body_kind(request) != MULTIPART:
        raise Problem(415, f"send {MULTIPART}, with the image files in file or files")
    form = await receive_form(request, service.settings)
    if wrong := sorted({field for field, _ in form.files} - {"file", "files", "files[]"}):
        raise Problem(422, f"unknown file field {wrong[0][:100]!r}; send file or files")
    uploads = [upload for _, upload in form.files]
    check_count(uploads, service.settings)
    request.scope["tamiz.images"] = len(uploads)
    every = _FLAGS.get(form.fields.get("return_probabilities", "").strip().lower())
    if every is None:
        raise Problem(422, "return_probabilities: give true or false")
    results = []
    outcomes = classify(
        service.default_client, uploads, service.settings, top_k=_ALL_LABELS if every else 1, deadline=deadline
    )
    position = 0
    async for outcome in outcomes:
        results.append(_result(uploads[position], outcome, service, every=every))
        position += 1
    failed = [result for result in results if result.error is not None]
    answered = len(failed) < len(results)
    reply = ClassifyReply(success=answered, processing_time=time.perf_counter() - began, results=results)
    if not answered:
        document = reply.model_dump(exclude_none=True)
        raise Problem(422, failed[0].error or "", error="InvalidImageError", **document)
    return reply


@router.get("/models", response_model=ModelsReply, responses=problems(503))
def list_models(service: ServiceOf) -> ModelsReply:
    """List the versions of the gateway's model."""
    versions = service.repository.versions(service.settings.model)
    live = [version for version in versions if version.live]
    return ModelsReply(
        available_models=[_available(version) for version in versions],
        current_model=_model_id(live[-1]) if live else None,
    )


@router.get("/model_performance", response_model=PerformanceReply, responses=problems(404, 422, 503))
def model_performance(
    service: ServiceOf,
    model_id: Annotated[
        str | None, Query(max_length=300, description="The model and the version. Default: the live version.")
    ] = None,
) -> PerformanceReply:
    """Return the figures of a version on held-out images."""
    if model_id is None:
        return read_performance(service.repository.live_version(service.settings.model))
    number = _version_number(model_id, service)
    versions = service.repository.versions(service.settings.model)
    found = next((version for version in versions if version.version == number), None)
    if found is None:
        raise _no_version(model_id)
    return read_performance(found)


@router.get("/monitor", response_model=MonitorReply)
def monitor(service: ServiceOf) -> MonitorReply:
    """Return what was predicted in the last minute, the last hour and since the start, by version."""
    return MonitorReply.model_validate(service.monitor.snapshot())


@admin_router.post("/switch_model", response_model=SwitchReply, responses=problems(400, 404, 409, 422, 502, 503))
async def switch_model(switch: SwitchRequest, service: ServiceOf) -> SwitchReply:
    """Make a version the live one; requests that are being handled are answered by the version before."""
    number = _version_number(switch.model_id, service)
    model = service.settings.model
    if number not in await asyncio.to_thread(service.repository.version_numbers, model):
        raise _no_version(switch.model_id)
    before = await asyncio.to_thread(service.repository.live_numbers, model)
    try:
        await service.promote(number)
    except RepositoryError as exc:
        raise Problem(409, str(exc), error="RepositoryError") from exc
    return SwitchReply(
        success=True, current_model=f"{model}/{number}", previous_model=f"{model}/{before[-1]}" if before else None
    )


def _result(upload: Upload, outcome: Outcome, service: Service, *, every: bool) -> FileResult:
    if not isinstance(outcome, Prediction):
        return FileResult(filename=upload.name, error=str(outcome))
    service.count(outcome)
    multilabel = service.default_client.spec.task == "multilabel"
    return FileResult(
        filename=upload.name,
        predicted_class=outcome.label,
        predicted_class_id=outcome.index,
        confidence=outcome.score,
        all_probabilities=dict(outcome.top) if every else None,
        labels=[scored.label for scored in outcome.labels] if multilabel else None,
    )


def _available(version: Version) -> AvailableModel:
    metrics = read_metrics(version)
    return AvailableModel(
        model_id=_model_id(version),
        created_date=version.manifest.get("published"),
        num_classes=len(version.spec.labels),
        accuracy=metrics.get("accuracy", metrics.get("subset_accuracy")),
        status="active" if version.live else "archived",
    )


def _model_id(version: Version) -> str:
    return f"{version.model}/{version.version}"


def _version_number(model_id: str, service: Service) -> int:
    model, _, number = model_id.rpartition("/")
    if model != service.settings.model or not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise _no_version(model_id)
    return int(number)


def _no_version(model_id: str) -> Problem:
    return Problem(404, f"no model {model_id[:100]!r}; GET /models lists them", error="ModelNotFoundError")
