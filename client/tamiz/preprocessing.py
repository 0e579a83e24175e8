"""Image file to the uint8 array that a model takes: the only preprocessing for evaluation and serving.

The trainer's evaluation, the export's check and every client call `prepare`, so the three cannot differ.
A change here that alters one pixel is a new `PREPROCESSING_REVISION`; golden hashes in the tests hold it:

1. decodes the whole image, then resizes it.
2. decodes a JPEG of at least twice the size that is needed at a half, a quarter or an eighth, which libjpeg-turbo does
   in the frequency domain: several times faster, and without the aliasing of a linear resize from the whole image.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InvalidImageError
from .image_header import MAX_FILE_BYTES, Header, read_header
from .spec import Preprocessing

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels
"""A path, the bytes of an image file, or pixels: uint8 ``[height, width, 3]`` RGB or ``[height, width]`` grey."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""Bits to join to the flag of a colour, which still decides the colour, whatever the name of the bit."""
_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
# One image is the work of one thread: parallelism comes from many images, and OpenCV's own threads
# would only fight over the cores with them.
cv2.setNumThreads(1)


def prepare(image: ImageSource, preprocessing: Preprocessing) -> Pixels:
    """Decode an image and bring it to the size that a model takes.

    Args:
        image: a path, the bytes of an image file, or pixels.
        preprocessing: of the model version that will classify it.

    Returns:
        uint8 ``[height, width, channels]``, contiguous.

    Raises:
        InvalidImageError: the image cannot be read.
    """
    return resize(decode(image, preprocessing.colour, enough_for=preprocessing), preprocessing)


def decode(image: ImageSource, colour: str, *, enough_for: Preprocessing | None = None) -> Pixels:
    """Decode an image as it should be seen.

    EXIF orientation is applied; alpha is dropped; palettes, CMYK and 16 bits become 8-bit RGB or grey.

    Args:
        image: a path, the bytes of an image file, or pixels.
        colour: ``RGB`` or ``L``.
        enough_for: what the pixels will be resized to; from revision 2 on a large JPEG is decoded smaller for it.

    Returns:
        uint8 ``[height, width, 3]`` for RGB, ``[height, width]`` for L, of the image's own size, or of that size
        divided by 2, 4 or 8.

    Raises:
        InvalidImageError: the image cannot be read.
    """
    if isinstance(image, np.ndarray):
        return _from_pixels(image, colour)
    name, content = _read(image)
    header = read_header(name, content)
    reduction = _reduction(header, enough_for) if enough_for is not None and enough_for.revision >= 2 else 1
    # Not IMREAD_GRAYSCALE: each codec has a grey of its own, and pixels of the same image must give the same.
    flag = cv2.IMREAD_COLOR_RGB if colour == "RGB" else cv2.IMREAD_ANYCOLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag | _REDUCED[reduction])
    except cv2.error as exc:
        raise InvalidImageError(f"{name}: {exc.err or 'cannot be decoded'}") from exc
    if pixels is None:
        raise InvalidImageError(f"{name}: {header.format} that cannot be decoded")
    if colour == "L" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return pixels  # type: ignore[return-value]


def resize(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring decoded pixels to the model's input size.

    Args:
        pixels: uint8 ``[height, width, 3]`` or ``[height, width]``, as `decode` gives them.
        preprocessing: of the model version.

    Returns:
        uint8 ``[height, width, channels]``, contiguous.
    """
    if preprocessing.resize == "pad":
        pixels = _fit_and_pad(pixels, preprocessing)
    else:
        if preprocessing.resize == "crop":
            pixels = _centre_crop(pixels, preprocessing)
        pixels = _scale(pixels, preprocessing.height, preprocessing.width, preprocessing)
    # A no-copy view for L, and for pixels that are contiguous already.
    return np.ascontiguousarray(pixels.reshape(preprocessing.shape))


def _read(image: ImageSource) -> tuple[str, bytes]:
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        name = f"{len(content)} bytes"
    elif not isinstance(image, str | os.PathLike):
        raise InvalidImageError(f"{type(image).__name__}: an image is a path, the bytes of a file, or a uint8 array")
    else:
        path = Path(image)
        name = str(path)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                # A pipe would be waited for, a device would never end.
                raise InvalidImageError(f"{name}: not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise InvalidImageError(f"{name}: {status.st_size} bytes; the limit is {MAX_FILE_BYTES}")
            with path.open("rb") as file:
                # Not more, also of a file that grows.
                content = file.read(status.st_size)
        except InvalidImageError:
            raise
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            raise InvalidImageError(f"{name}: {reason}") from exc
    return name, content


def _reduction(header: Header, preprocessing: Preprocessing) -> int:
    """By how much a JPEG may be decoded smaller and still have at least the pixels that it is resized to."""
    if header.format != "JPEG":
        return 1
    # Its EXIF orientation may turn it by 90 degrees, so it must be enough either way.
    scale = min(
        min(height / needed_height, width / needed_width)
        for height, width in ((header.height, header.width), (header.width, header.height))
        for needed_height, needed_width in [_needed(height, width, preprocessing)]
    )
    return next((reduction for reduction in (8, 4, 2) if scale >= reduction), 1)


def _needed(height: int, width: int, preprocessing: Preprocessing) -> tuple[float, float]:
    """Height and width at which a whole image has the pixels that the model takes, before any is cut off or added."""
    target = preprocessing.height, preprocessing.width
    if preprocessing.resize == "squash":
        return target
    if preprocessing.resize == "pad":
        scale = min(target[0] / height, target[1] / width)
    else:
        scale = max(target[0] / height, target[1] / width) / preprocessing.crop_fraction
    return height * scale, width * scale


def _from_pixels(pixels: Pixels, colour: str) -> Pixels:
    rgb = pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (rgb or pixels.ndim == 2) or pixels.size == 0:
        raise InvalidImageError(
            f"array of {pixels.dtype} {list(pixels.shape)}: pixels are uint8 [height, width, 3] RGB or "
            "[height, width] grey"
        )
    if colour == "RGB":
        return pixels if rgb else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if rgb else pixels  # type: ignore[return-value]


def _scale(pixels: Pixels, height: int, width: int, preprocessing: Preprocessing) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    interpolation = _INTERPOLATION[preprocessing.interpolation]
    return cv2.resize(pixels, (width, height), interpolation=interpolation)  # type: ignore[return-value]


def _centre_crop(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    # Cropping before resizing gives what torchvision's Resize + CenterCrop gives, and resizes only what is kept.
    height, width = pixels.shape[:2]
    aspect = preprocessing.width / preprocessing.height
    box_height = max(1, round(min(height, width / aspect) * preprocessing.crop_fraction))
    box_width = max(1, round(min(width, height * aspect) * preprocessing.crop_fraction))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return pixels[top : top + box_height, left : left + box_width]


def _fit_and_pad(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(preprocessing.height / height, preprocessing.width / width)
    fit_height = min(preprocessing.height, max(1, round(height * scale)))
    fit_width = min(preprocessing.width, max(1, round(width * scale)))
    canvas = np.zeros((preprocessing.height, preprocessing.width, *pixels.shape[2:]), np.uint8)
    top, left = (preprocessing.height - fit_height) // 2, (preprocessing.width - fit_width) // 2
    fitted = _scale(pixels, fit_height, fit_width, preprocessing)
    canvas[top : top + fit_height, left : left + fit_width] = fitted
    return canvas
