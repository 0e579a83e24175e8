"""Header of an image file: its format and size, read before the image is decoded.

A small file can claim a huge image, or have a format whose decoder is little tested against malicious files. So the
format and the size are read here in Python. A file of an unsupported format or above the limits never reaches a
decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from .errors import InvalidImageError

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Largest image file, in bytes."""

MAX_PIXELS = 64_000_000
"""Largest image, in pixels. Decoding needs at most 16 bytes for each pixel, so at most 1 GB: a progressive JPEG has its
coefficients in memory beside the pixels, and applying EXIF orientation makes a second copy of the pixels."""

MAX_SCANS = 100
"""Largest number of scans in a progressive JPEG. Each scan costs a pass over all pixels; encoders write about 10."""


@dataclass(frozen=True, slots=True)
class Header:
    """Format and size of an image file.

    Attributes:
        format: ``JPEG``, ``PNG``, ``WebP``, ``TIFF`` or ``BMP``.
        width: stored width in pixels, before EXIF orientation is applied.
        height: stored height in pixels, before EXIF orientation is applied.
        alpha: whether pixels may be transparent. A BMP file never counts as transparent: most programs that write one
            with four channels leave the fourth unset.
        orientation: EXIF orientation, 1 to 8; 1 for a JPEG, whose decoder reads it.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1


def read_header(name: str, content: bytes) -> Header:
    """Read the format and the size of an image file.

    Args:
        name: name of the image, for error messages.
        content: content of the whole file.

    Raises:
        InvalidImageError: the format is not supported, the header is damaged, or a limit is exceeded.
    """
    if len(content) > MAX_FILE_BYTES:
        raise InvalidImageError(f"{name}: {len(content)} bytes; the limit is {MAX_FILE_BYTES}")
    if not content:
        raise InvalidImageError(f"{name}: empty")
    found = next((entry for entry in _FORMATS if content.startswith(entry[0], entry[1])), None)
    if found is None:
        raise InvalidImageError(f"{name}: {_unsupported(content)} ({', '.join(FORMATS)})")
    _, _, kind, read = found
    try:
        header = read(content)
    except _AnimatedError as exc:
        raise InvalidImageError(f"{name}: animated {kind} files are not supported: save one frame as an image") from exc
    except (struct.error, LookupError, ValueError) as exc:
        raise InvalidImageError(f"{name}: the {kind} file is damaged or truncated") from exc
    width, height = header.width, header.height
    if width <= 0 or height <= 0:
        raise InvalidImageError(f"{name}: {kind} file of {width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise InvalidImageError(f"{name}: {kind} file of {width}×{height} pixels; the limit is {MAX_PIXELS:,}")
    return header


class _AnimatedError(Exception):
    """The file holds several frames."""


def _unsupported(content: bytes) -> str:
    """Why a file is refused; names a format that cannot be read but that users may take for one that can."""
    if content.startswith(b"GIF8"):
        kind = "GIF"
    elif content[4:8] == b"ftyp" and content[8:12] in _ISO_BRANDS:
        kind = _ISO_BRANDS[content[8:12]]
    else:
        return "not an image of a supported format"
    return f"{kind} images are not supported: convert it to one of the formats"


# Brands of the ISO base media file format (ISO/IEC 23008-12, and the AVIF specification).
_ISO_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}


def _jpeg(content: bytes) -> Header:
    """Walk through the segments to the frame header (ITU-T T.81, B.1.1.3 and B.2.2)."""
    place = 2
    while True:
        if content[place] != 0xFF:
            # Decoders skip bytes between segments, and so does this.
            place = content.index(b"\xff", place)
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            if marker in _JPEG_PROGRESSIVE and content.count(b"\xff\xda", place) > MAX_SCANS:
                raise ValueError("too many scans")
            # The decoder would fill the missing part of a truncated file with grey and report no error.
            if content.rfind(b"\xff\xd9", place) < 0:
                raise ValueError("no end of image")
            return Header("JPEG", width, height)
        elif marker in _JPEG_BARE:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", content, place + 2)[0]


# Frame headers: SOF markers C0 to CF without DHT, JPG and DAC. Markers without a length: TEM, RST0 to RST7, SOI, and
# a stuffed zero.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})


def _png(content: bytes) -> Header:
    """Walk through all chunks to the last one (PNG, third edition, 5.3).

    Animated files are rejected: when their frames contradict each other, the decoder of OpenCV 4.11 writes out of
    bounds, as tests with mutated images showed.
    """
    if content[12:16] != b"IHDR":
        raise ValueError("IHDR is not first")
    width, height, _, colour_type = struct.unpack_from(">IIBB", content, 16)
    alpha, orientation = bool(colour_type & 4), 1
    place = 8
    while (kind := content[place + 4 : place + 8]) != b"IEND":
        if kind in _PNG_ANIMATED:
            raise _AnimatedError
        (size,) = struct.unpack_from(">I", content, place)
        if kind == b"tRNS":
            alpha = True
        elif kind == b"eXIf":
            orientation = _exif_orientation(content[place + 8 : place + 8 + size])
        place += 12 + size
    return Header("PNG", width, height, alpha, orientation)


_PNG_ANIMATED = frozenset({b"acTL", b"fcTL", b"fdAT"})


def _bmp(content: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", content, 14)
    # The oldest header has 16-bit sizes. In the others a negative height means that the rows are stored top-down.
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", content, 18)
    return Header("BMP", width, abs(height))


def _webp(content: bytes) -> Header:
    """Read the canvas of a lossy, lossless or extended WebP file (RFC 9649, 2.5 to 2.7)."""
    kind = content[12:16]
    alpha, orientation = False, 1
    if kind == b"VP8X":
        flags = content[20]
        if flags & _WEBP_ANIMATION:
            raise _AnimatedError
        width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (24, 27))
        content[29]  # the last byte of this chunk; its absence is an IndexError
        alpha = bool(flags & _WEBP_ALPHA)
        if flags & _WEBP_EXIF:
            orientation = _webp_orientation(content)
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 26))
    else:
        raise ValueError("no image chunk")
    return Header("WebP", width, height, alpha, orientation)


_WEBP_ALPHA, _WEBP_EXIF, _WEBP_ANIMATION = 0x10, 0x08, 0x02


def _webp_orientation(content: bytes) -> int:
    place = 12
    while place + 8 <= len(content):
        kind, size = content[place : place + 4], struct.unpack_from("<I", content, place + 4)[0]
        if kind == b"EXIF":
            # Some programs write the prefix that EXIF has in a JPEG.
            return _exif_orientation(content[place + 8 : place + 8 + size].removeprefix(b"Exif\0\0"))
        place += 8 + size + size % 2
    return 1


def _exif_orientation(exif: bytes) -> int:
    """The orientation in EXIF data, which has the structure of a TIFF file; 1 if it is missing or damaged."""
    try:
        orientation = _tiff_tags(exif).get(_TIFF_ORIENTATION, 1)
    except struct.error:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _tiff(content: bytes) -> Header:
    """The larger of the image and its tile, since a decoder allocates memory for both (TIFF 6.0, sections 2 and 15)."""
    tags = _tiff_tags(content)
    width, height = max(
        (tags[256], tags[257]), (tags.get(322, 0), tags.get(323, 0)), key=lambda size: size[0] * size[1]
    )
    return Header("TIFF", width, height, _TIFF_EXTRA_SAMPLES in tags, _exif_orientation(content))


def _tiff_tags(content: bytes) -> dict[int, int]:
    """The first value of the tags of the first image that matter here."""
    order = "<" if content[:2] == b"II" else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (entries,) = struct.unpack_from(f"{order}H", content, place)
    tags = {}
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", content, entry)
        if tag in _TIFF_TAGS:
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", content, entry + 8)
    return tags


_TIFF_ORIENTATION, _TIFF_EXTRA_SAMPLES = 274, 338
# Width and height of the image and of its tiles.
_TIFF_TAGS = frozenset({256, 257, 322, 323, _TIFF_ORIENTATION, _TIFF_EXTRA_SAMPLES})

# Signature, its offset in the file, name of the format, function that reads the header.
_FORMATS: tuple[tuple[bytes, int, str, Callable[[bytes], Header]], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG", _png),
    (b"WEBP", 8, "WebP", _webp),
    (b"II*\x00", 0, "TIFF", _tiff),
    (b"MM\x00*", 0, "TIFF", _tiff),
    (b"BM", 0, "BMP", _bmp),
)
FORMATS = tuple(dict.fromkeys(kind for _, _, kind, _ in _FORMATS))

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib"})
"""Suffixes of image files of these formats, in lower case: what a search through a folder takes for an image."""
