"""The route that shows where in an image a label is seen."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ..classification import read_deadline
from ..keys import ClassifyRoute
from ..problems import Problem
from ..uploads import MULTIPART, body_kind, check_count, find_invalid, receive_form
from .service_of import ServiceOf, multipart_body, problems

router = APIRouter(route_class=ClassifyRoute, tags=["inference"])

_FORM = multipart_body(
    {
        "file": {"type": "string", "format": "binary", "description": "One image file."},
        "label": {"type": "string", "description": "The label to explain. Default: the top one."},
    },
    required=["file"],
)


@router.post(
    "/explain",
    response_class=Response,
    responses={
        200: {"description": "The overlay.", "content": {"image/png": {}}},
        **problems(400, 404, 408, 413, 415, 422, 429, 501, 502, 503, 504),
    },
    openapi_extra=_FORM,
)
async def explain(request: Request, service: ServiceOf) -> Response:
    """Return an image with a heat map over it (Grad-CAM): warm colours are evidence for the label.

    It comes from the network of the live version, in the run that the version was published from. The headers
    ``X-Label`` (percent-encoded), ``X-Score`` and ``X-Model-Id`` say what is explained.
    """
    deadline = read_deadline(request, service.settings)
    if body_kind(request) != MULTIPART:
        raise Problem(415, f"send {MULTIPART}, with the image file in file")
    form = await receive_form(request, service.settings)
    uploads = [upload for _, upload in form.files]
    check_count(uploads, service.settings)
    if len(uploads) > 1:
        raise Problem(422, "send one image file")
    if (wrong := find_invalid(uploads[0], service.settings)) is not None:
        raise wrong
    request.scope["tamiz.images"] = 1
    overlay = await service.explainer.explain(uploads[0].content, form.fields.get("label") or None, deadline)
    headers = {
        "x-label": quote(overlay.label),
        "x-score": f"{overlay.score:.6f}",
        "x-model-id": f"{service.settings.model}/{overlay.version}",
    }
    return Response(overlay.content, headers=headers, media_type="image/png")
