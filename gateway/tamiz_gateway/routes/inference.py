"""The gateway's own route for images: any model, raw bodies, several images at once, and replies as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from tamiz import Prediction
from tamiz.errors import TamizError
from tamiz.json_text import to_json

from ..classification import Outcome, classify, read_deadline
from ..keys import ClassifyRoute
from ..multipart import Upload
from ..problems import Problem, problem_of
from ..schemas import PredictionReply, PredictionsReply, ProblemReply, ScoredLabel
from ..service import Service
from ..uploads import JSON, MULTIPART, NDJSON, RAW, EncodedImage, EncodedImages, body_kind, read_uploads
from .service_of import ServiceOf, problems

router = APIRouter(route_class=ClassifyRoute, tags=["inference"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            MULTIPART: {
                "schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}},
            },
            JSON: {"schema": EncodedImages.model_json_schema()},
            NDJSON: {"schema": EncodedImage.model_json_schema()},
        },
    }
}
# References within a schema would be looked for at the top of the OpenAPI document.
_BODY["requestBody"]["content"][JSON]["schema"]["properties"]["images"]["items"] = EncodedImage.model_json_schema()
_BODY["requestBody"]["content"][JSON]["schema"].pop("$defs", None)


@router.post(
    "/v1/models/{model}:classify",
    response_model=PredictionReply | PredictionsReply,
    response_model_exclude_none=True,
    responses={
        200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/PredictionReply"}}}},
        **problems(400, 404, 408, 413, 415, 422, 429, 502, 503, 504),
    },
    openapi_extra=_BODY,
)
async def classify_images(
    request: Request,
    service: ServiceOf,
    model: Annotated[str, Path(description="Name of the model.", max_length=255)],
    top_k: Annotated[int, Query(ge=1, le=1_000, description="How many labels of each image to return.")] = 1,
) -> Any:
    """Classify an image, or several.

    A body that is one image file gets one prediction; an unreadable one is a problem with status 422. Multipart, JSON
    (``{"images": [{"content": BASE64}]}``) and lines of JSON (``{"content": BASE64}``) get a list, in which an
    unreadable image has an ``error``. With ``Accept: application/x-ndjson``, or a body of lines, each prediction is
    sent as a line as soon as it is there; a failure is then the last line, because the status has been sent before.
    """
    deadline = read_deadline(request, service.settings)
    kind = body_kind(request)
    client = await service.client(model)
    uploads = await read_uploads(request, kind, service.settings)
    request.scope["tamiz.images"] = len(uploads)
    outcomes = classify(client, uploads, service.settings, top_k=top_k, deadline=deadline)
    if kind == NDJSON or NDJSON in request.headers.get("accept", ""):
        # The first outcome is waited for, so that a server that does not answer is a status and not a line.
        first = await anext(outcomes)
        return StreamingResponse(_lines(first, outcomes, uploads, service), media_type=NDJSON)
    found = [_describe(position, uploads[position], outcome, service) async for position, outcome in _counted(outcomes)]
    if kind != RAW:
        return PredictionsReply(predictions=found)
    (prediction,) = found
    if prediction.error is not None:
        raise Problem(422, prediction.error.detail, error=prediction.error.error)
    return prediction


@router.get("/v1/models/{model}", responses=problems(404, 405, 422, 429, 502, 503, 504))
async def describe_model(
    service: ServiceOf, model: Annotated[str, Path(description="Name of the model.", max_length=255)]
) -> Response:
    """Return the live version of a model with its spec: labels, thresholds and preprocessing."""
    if model.endswith(":classify"):
        raise Problem(405, "Method Not Allowed", headers={"allow": "POST"})
    client = await service.client(model)
    await client.refresh()
    spec = client.spec.model_dump(mode="json")
    return Response(to_json({"model": model, "version": client.live_version, "spec": spec}), media_type=JSON)


async def _counted(outcomes: AsyncIterator[Outcome]) -> AsyncIterator[tuple[int, Outcome]]:
    position = 0
    async for outcome in outcomes:
        yield position, outcome
        position += 1


async def _lines(
    first: Outcome, rest: AsyncIterator[Outcome], uploads: list[Upload], service: Service
) -> AsyncIterator[str]:
    yield _line(_describe(0, uploads[0], first, service))
    position = 1
    try:
        async for outcome in rest:
            yield _line(_describe(position, uploads[position], outcome, service))
            position += 1
    except TamizError as exc:
        yield _line(PredictionReply(position=position, error=_reply(problem_of(exc))))


def _line(reply: PredictionReply) -> str:
    return to_json(reply.model_dump(exclude_none=True)) + "\n"


def _describe(position: int, upload: Upload, outcome: Outcome, service: Service) -> PredictionReply:
    name = upload.name or None
    if not isinstance(outcome, Prediction):
        return PredictionReply(position=position, name=name, error=_reply(problem_of(outcome)))
    service.count(outcome)
    return PredictionReply(
        position=position,
        name=name,
        model=outcome.model,
        version=outcome.version,
        label=outcome.label,
        index=outcome.index,
        score=outcome.score,
        top=[ScoredLabel(label=label, score=score) for label, score in outcome.top],
        labels=[ScoredLabel(label=label, score=score) for label, score in outcome.labels] or None,
    )


def _reply(problem: Problem) -> ProblemReply:
    return ProblemReply(**problem.to_dict())
