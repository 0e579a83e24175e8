"""Multipart bodies (RFC 7578): their files and fields, in memory, which the limits of bodies bound.

Starlette's own parser takes a truncated body for a shorter one, and writes files of a megabyte to the disk.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tamiz.errors import cut

from .problems import Problem

_MAX_NAME = 255
_MAX_FIELDS = 20


@dataclass(frozen=True)
class Upload:
    """An image that a caller sent.

    Attributes:
        name: the name that the caller gave it; it is only repeated in the reply.
        content: the bytes of the image file.
    """

    name: str
    content: bytes


@dataclass
class Form:
    """A multipart body.

    Attributes:
        files: the files with the names of their fields, in the order of the body.
        fields: the values of the other fields by name.
    """

    files: list[tuple[str, Upload]] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(content_type: str, body: AsyncIterable[bytes], *, max_files: int) -> Form:
    """Read a multipart body.

    Args:
        content_type: the header ``Content-Type``, which has the boundary.
        body: the body in parts.
        max_files: the most files.

    Raises:
        Problem: 400 if the body is malformed or truncated, 413 if it has too many files.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise Problem(400, "the multipart body is malformed: its content type has no boundary")
    reader = _Reader(max_files)
    try:
        parser = MultipartParser(boundary, reader.callbacks)  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
    except FormParserError as exc:
        raise Problem(400, f"the multipart body is malformed: {cut(str(exc), 200)}") from exc
    if not reader.complete:
        raise Problem(400, "the multipart body is truncated: its closing boundary is missing")
    return reader.form


class _Reader:
    """Collects the parts of a body as the parser finds them."""

    def __init__(self, max_files: int) -> None:
        self.form = Form()
        self.complete = False
        self._max_files = max_files
        self._headers: dict[str, str] = {}
        self._header, self._value, self._content = bytearray(), bytearray(), bytearray()
        self.callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._end_body,
        }

    def _begin(self) -> None:
        self._headers = {}
        self._content = bytearray()

    def _end_header(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._header, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition", ""))
        if kind != b"form-data" or b"name" not in options:
            raise Problem(400, "the multipart body is malformed: a part has no name")
        name, content = _text(options[b"name"]), bytes(self._content)
        if b"filename" not in options:
            if len(self.form.fields) >= _MAX_FIELDS:
                raise Problem(413, f"too many fields; the limit is {_MAX_FIELDS}")
            self.form.fields[name] = _text(content)
        else:
            if len(self.form.files) >= self._max_files:
                raise too_many(self._max_files)
            self.form.files.append((name, Upload(cut(_text(options[b"filename"]), _MAX_NAME), content)))
        self._content = bytearray()

    def _end_body(self) -> None:
        self.complete = True


def too_many(limit: int) -> Problem:
    """The problem of a request with too many images."""
    return Problem(413, f"too many images; the limit of one request is {limit}")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
