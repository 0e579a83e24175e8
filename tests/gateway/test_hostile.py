"""Hostile bodies: whatever callers send, the gateway answers with a status that blames them, and goes on."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import psutil
from gateways import Gateway, multipart, multipart_type

CASES = 1_000
Start = Callable[..., AbstractContextManager[Gateway]]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that claims to have so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A body with some bytes changed, removed, repeated or cut off."""
    body = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(body) + 1)
        match chance.randrange(4):
            case 0:
                body[place : place + 1] = chance.randbytes(1)
            case 1:
                del body[place : place + chance.randint(1, 40)]
            case 2:
                body[place:place] = body[max(0, place - 30) : place]
            case 3:
                del body[place:]
    return bytes(body)


def test_hostile_bodies_get_a_status_that_blames_the_caller(start: Start, even_image: Callable[..., Path]) -> None:
    chance = random.Random(16)
    image = even_image(3).read_bytes()
    _, jpeg = cv2.imencode(".jpg", np.full((40, 40, 3), 90, np.uint8))
    names = ["a.png", "../../etc/passwd", "a\0b", "é" * 300, '"; name="file', "a\r\nX: y"]
    bodies = [
        (multipart_type(), multipart(("file", (name, image)), ("return_probabilities", "true"))) for name in names
    ]
    bodies += [(multipart_type(), multipart(*[("files", (name, image)) for name in names]))]
    bodies += [("image/png", image), ("image/jpeg", jpeg.tobytes()), ("application/octet-stream", bomb(60_000, 60_000))]
    bodies += [("application/json", json.dumps({"images": [{"content": "iVBORw0KGgo=", "name": "x"}]}).encode())]
    bodies += [("application/x-ndjson", b'{"content": "iVBORw0KGgo="}\n' * 3), ("application/json", b"[" * 50_000)]
    paths = ["/classify", "/v1/models/grey:classify", "/v1/models/grey:classify?top_k=3", "/switch_model"]
    statuses: dict[int, int] = {}
    with start(max_body_bytes=1_000_000, max_pixels=1_000_000) as gateway:
        gateway.request("POST", paths[1], image)
        before = psutil.Process().memory_info().rss
        for case in range(CASES):
            kind, body = chance.choice(bodies)
            sent = body if case % 10 == 0 else mutate(body, chance)
            answer = gateway.request("POST", chance.choice(paths), sent, {"content-type": kind})
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status < 500, (kind, sent[:500], answer.content)
            if answer.status >= 400:
                assert answer.document["status"] == answer.status
        assert psutil.Process().memory_info().rss - before < 200_000_000
        assert gateway.request("POST", paths[1], image).document["label"] == "grey 3"
        assert gateway.get("/models").document["current_model"] == "grey/1"
    assert set(statuses) >= {200, 400, 415, 422}
