"""Uploads: the images in the body of a request, as a raw file, as multipart, or as JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated

from fastapi import Request
from pydantic import Field, ValidationError

from tamiz.errors import InvalidImageError, cut
from tamiz.image_header import read_header

from .multipart import Form, Upload, read_form, too_many
from .problems import Problem, invalid
from .schemas import Body
from .settings import Settings

RAW, JSON, NDJSON, MULTIPART = "raw", "application/json", "application/x-ndjson", "multipart/form-data"

_MAX_NAME = 255


class EncodedImage(Body):
    """An image in a JSON document.

    Attributes:
        content: the bytes of the image file in base64.
        name: a name for the image, which the reply repeats.
    """

    content: str
    name: Annotated[str, Field(max_length=_MAX_NAME)] = ""


class EncodedImages(Body):
    """Images in a JSON document.

    Attributes:
        images: the images.
    """

    images: Annotated[list[EncodedImage], Field(min_length=1)]


def body_kind(request: Request) -> str:
    """What the body of a request is, by its content type: `RAW`, `JSON`, `NDJSON` or `MULTIPART`.

    Raises:
        Problem: 415 if it is something else.
    """
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind in (JSON, NDJSON, MULTIPART):
        return kind
    # curl --data-binary says application/x-www-form-urlencoded unless -H names another type.
    if kind.startswith("image/") or kind in ("application/octet-stream", "application/x-www-form-urlencoded"):
        return RAW
    raise Problem(
        415, f"content type {cut(kind, 100)!r}: send an image file, {MULTIPART}, {JSON} or {NDJSON} with base64"
    )


async def read_uploads(request: Request, kind: str, settings: Settings) -> list[Upload]:
    """The images in the body of a request.

    Args:
        request: the request.
        kind: what `body_kind` returned.
        settings: the settings of the gateway.

    Raises:
        Problem: the body is malformed, or has no image or too many.
    """
    if kind == MULTIPART:
        uploads = [upload for _, upload in (await receive_form(request, settings)).files]
    else:
        content = await request.body()
        uploads = [Upload("", content)] if kind == RAW else _decode(content, kind, settings)
    check_count(uploads, settings)
    return uploads


async def receive_form(request: Request, settings: Settings) -> Form:
    """The files and fields of a multipart body; see `tamiz_gateway.multipart.read_form`."""
    return await read_form(request.headers["content-type"], request.stream(), max_files=settings.max_files)


def check_count(uploads: Sequence[Upload], settings: Settings) -> None:
    """Check that a request has an image, and not too many.

    Raises:
        Problem: it has none, or too many.
    """
    if not any(upload.content for upload in uploads):
        raise Problem(422, "the body has no image; send at least one image file", error="InvalidImageError")
    if len(uploads) > settings.max_files:
        raise too_many(settings.max_files)


def find_invalid(upload: Upload, settings: Settings) -> InvalidImageError | None:
    """Why an image must not be decoded, by its header; None if it may be."""
    name = upload.name or "image"
    try:
        header = read_header(name, upload.content)
    except InvalidImageError as exc:
        return exc
    if header.width * header.height > settings.max_pixels:
        return InvalidImageError(
            f"{name}: {header.format} file of {header.width}×{header.height} pixels; the limit is "
            f"{settings.max_pixels:,}"
        )
    return None


def _decode(content: bytes, kind: str, settings: Settings) -> list[Upload]:
    try:
        if kind == NDJSON:
            lines = [line for line in content.splitlines() if line.strip()]
            if len(lines) > settings.max_files:
                raise too_many(settings.max_files)
            images = [EncodedImage.model_validate_json(line) for line in lines]
        else:
            images = EncodedImages.model_validate_json(content).images
    except ValidationError as exc:
        raise invalid(json.loads(exc.json(include_url=False, include_context=False, include_input=False))) from exc
    return [Upload(image.name, _from_base64(image, position)) for position, image in enumerate(images)]


def _from_base64(image: EncodedImage, position: int) -> bytes:
    try:
        return base64.b64decode(image.content, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Problem(422, f"/images/{position}/content: not base64") from exc
