from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tamiz import InvalidImageError, Preprocessing, prepare
from tamiz.image_header import MAX_PIXELS, MAX_SCANS, read_header

SIZE = (37, 23)
SETTINGS = Preprocessing(height=8, width=8)


def saved(kind: str, size: tuple[int, int] = SIZE, **options: object) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param("JPEG", {}, id="JPEG"),
        pytest.param("JPEG", {"progressive": True}, id="progressive JPEG"),
        pytest.param("JPEG", {"comment": b"\xff\xc0 a comment \xff\xd9" * 900}, id="JPEG with a comment"),
        pytest.param("PNG", {}, id="PNG"),
        pytest.param("WebP", {}, id="WebP"),
        pytest.param("WebP", {"lossless": True}, id="lossless WebP"),
        pytest.param("WebP", {"exif": b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0"}, id="extended WebP"),
        pytest.param("TIFF", {}, id="TIFF"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, id="compressed TIFF"),
        pytest.param("BMP", {}, id="BMP"),
    ],
)
def test_the_header_gives_format_and_size(kind: str, options: dict[str, object]) -> None:
    header = read_header("x", saved(kind, **options))
    assert (header.format, header.width, header.height) == (kind, *SIZE)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(100)


def tiff(**tags: int) -> bytes:
    numbers = {"width": 256, "height": 257, "tile_width": 322, "tile_height": 323}
    entries = b"".join(struct.pack("<HHII", numbers[name], 4, 1, value) for name, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(100)


def huge_png() -> bytes:
    content = bytearray(saved("PNG"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    return bytes(content)


def many_scans() -> bytes:
    content = saved("JPEG", progressive=True)
    return content[:-2] + b"\xff\xda" * MAX_SCANS + content[-2:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(huge_png(), f"60000×60000 pixels; the limit is {MAX_PIXELS:,}", id="PNG"),
        pytest.param(bmp(30_000, -30_000), "30000×30000 pixels; the limit", id="BMP"),
        pytest.param(tiff(width=30_000, height=30_000), "30000×30000 pixels; the limit", id="TIFF"),
        pytest.param(
            tiff(width=10, height=10, tile_width=1 << 20, tile_height=1 << 20), "1048576×1048576 pixels", id="tile"
        ),
        pytest.param(bmp(0, 5), "0×5 pixels", id="no pixels"),
        pytest.param(tiff(width=10), "the TIFF file is damaged", id="no height"),
        pytest.param(many_scans(), "the JPEG file is damaged", id="scans"),
        pytest.param(
            saved("PNG", save_all=True, append_images=[Image.new("RGB", SIZE)]),
            "animated PNG files are not supported",
            id="animated PNG",
        ),
        pytest.param(
            saved("WebP", save_all=True, append_images=[Image.new("RGB", SIZE)]),
            "animated WebP files are not supported: save one frame",
            id="animated WebP",
        ),
        pytest.param(b"GIF89a" + bytes(50), "GIF images are not supported: convert it to one of the formats", id="GIF"),
        pytest.param(b"\0\0\0\x20ftypavif" + bytes(50), "AVIF images are not supported: convert", id="AVIF"),
        pytest.param(b"\0\0\0\x20ftypheic" + bytes(50), "HEIC images are not supported: convert", id="HEIC"),
        pytest.param(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "not an image of a supported format", id="JPEG 2000"),
        pytest.param(b"v/1\x01" + bytes(50), "not an image of a supported format", id="OpenEXR"),
    ],
)
def test_a_file_that_is_too_large_or_unsupported_never_reaches_a_decoder(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(InvalidImageError, match=reason):
        prepare(content, SETTINGS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "BMP"])
def test_a_file_truncated_anywhere_is_an_invalid_image(kind: str) -> None:
    content = saved(kind)
    prepare(content, SETTINGS)
    for end in np.linspace(0, len(content) - 1, 60, dtype=int):
        with pytest.raises(InvalidImageError):
            prepare(content[:end], SETTINGS)
