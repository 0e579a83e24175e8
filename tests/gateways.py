"""A real gateway in a thread, and the requests of its callers."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from tamiz_gateway import Settings, create_app

BOUNDARY = "------------------------abc123"


@dataclass
class Answer:
    """A reply of the gateway."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.content)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.content.splitlines()]


@dataclass
class Gateway:
    """The address of a running gateway."""

    port: int
    settings: Settings
    headers: dict[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post_json(self, path: str, document: Any, **headers: str) -> Answer:
        return self.request(
            "POST", path, json.dumps(document).encode(), {"content-type": "application/json", **headers}
        )

    def post_form(self, path: str, *parts: tuple[str, str | tuple[str, bytes]], **headers: str) -> Answer:
        """Send multipart fields and files, as `curl -F` does."""
        return self.request("POST", path, multipart(*parts), {"content-type": multipart_type(), **headers})


def multipart_type() -> str:
    return f"multipart/form-data; boundary={BOUNDARY}"


def multipart(*parts: tuple[str, str | tuple[str, bytes]]) -> bytes:
    body = b""
    for name, value in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, str):
            body += b"\r\n\r\n" + value.encode()
        else:
            file, content = value
            body += f'; filename="{file}"\r\nContent-Type: image/png\r\n\r\n'.encode() + content
        body += b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def running(settings: Settings) -> Iterator[Gateway]:
    """Run the application on a free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(create_app(settings), ws="none", log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    end = time.monotonic() + 20
    while not server.started and time.monotonic() < end:
        time.sleep(0.01)
    try:
        yield Gateway(listener.getsockname()[1], settings)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
