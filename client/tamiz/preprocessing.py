"""Preprocessing: from an image file to the uint8 array that is the input of a model.

Evaluation, the check of an export and every client call the same `prepare`, so their inputs cannot differ. A change
that alters one pixel needs a new `PREPROCESSING_REVISION`; hashes of golden images in the tests make sure of it.

Revisions:

1. decodes the whole image and resizes it.
2. decodes a JPEG that has at least twice the required size at a half, a quarter or an eighth of its size.
   libjpeg-turbo does this in the frequency domain, which is several times faster and avoids the aliasing of a linear
   resize from the whole image.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InvalidImageError, os_reason
from .image_header import MAX_FILE_BYTES, Header, read_header
from .spec import Preprocessing

Pixels: TypeAlias = npt.NDArray[np.uint8]
ImageSource: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | Pixels
"""A path, the bytes of an image file, or pixels: uint8 ``[height, width, 3]`` RGB or ``[height, width]`` grey."""

_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
"""OpenCV flags that decode at 1/1, 1/2, 1/4 and 1/8 of the size. They are combined with the flag of a colour, which
decides the colour, although the names of these flags mention grey."""

_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}

# Images are prepared in parallel, each in one thread. OpenCV's own threads would only compete for the same cores.
cv2.setNumThreads(1)


def prepare(image: ImageSource, preprocessing: Preprocessing) -> Pixels:
    """Decode an image and resize it to the input size of a model.

    Args:
        image: a path, the bytes of an image file, or pixels.
        preprocessing: settings of the model version that will classify the image.

    Returns:
        uint8 ``[height, width, channels]``, contiguous.

    Raises:
        InvalidImageError: the image is unreadable, too large or of an unsupported format.
    """
    return resize(decode(image, preprocessing.colour, enough_for=preprocessing), preprocessing)


def decode(image: ImageSource, colour: str, *, enough_for: Preprocessing | None = None) -> Pixels:
    """Decode an image to pixels in display orientation.

    EXIF orientation is applied, alpha is dropped, and palettes, CMYK and 16-bit values become 8-bit RGB or grey.

    Args:
        image: a path, the bytes of an image file, or pixels.
        colour: ``RGB`` or ``L``.
        enough_for: settings to which the pixels will be resized. From revision 2 on, a large JPEG is decoded at a
            reduced size that is still large enough for them.

    Returns:
        uint8 ``[height, width, 3]`` for RGB, ``[height, width]`` for L, in the size of the image or in that size
        divided by 2, 4 or 8.

    Raises:
        InvalidImageError: the image is unreadable, too large or of an unsupported format.
    """
    if isinstance(image, np.ndarray):
        return _from_pixels(image, colour)
    name, content = _read(image)
    header = read_header(name, content)
    reduction = _reduction(header, enough_for) if enough_for is not None and enough_for.revision >= 2 else 1
    # Not IMREAD_GRAYSCALE, for which each codec has its own conversion: a file and its pixels must give the same grey.
    flag = cv2.IMREAD_COLOR_RGB if colour == "RGB" else cv2.IMREAD_ANYCOLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag | _REDUCED[reduction])
    except cv2.error as exc:
        raise InvalidImageError(f"{name}: {exc.err or 'cannot be decoded'}") from exc
    if pixels is None:
        raise InvalidImageError(f"{name}: this {header.format} file cannot be decoded")
    if colour == "L" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return pixels  # type: ignore[return-value]


def resize(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Resize decoded pixels to the input size of a model.

    Args:
        pixels: uint8 ``[height, width, 3]`` or ``[height, width]``, as `decode` returns them.
        preprocessing: settings of the model version.

    Returns:
        uint8 ``[height, width, channels]``, contiguous.
    """
    if preprocessing.resize == "pad":
        pixels = _fit_and_pad(pixels, preprocessing)
    else:
        if preprocessing.resize == "crop":
            pixels = _centre_crop(pixels, preprocessing)
        pixels = _scale(pixels, preprocessing.height, preprocessing.width, preprocessing)
    # This makes no copy of pixels that are contiguous; L gets its channel axis here.
    return np.ascontiguousarray(pixels.reshape(preprocessing.shape))


def _read(image: ImageSource) -> tuple[str, bytes]:
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        name = f"{len(content)} bytes"
    elif not isinstance(image, str | os.PathLike):
        raise InvalidImageError(
            f"{type(image).__name__}: not an image; give a path, the bytes of an image file, or a uint8 array"
        )
    else:
        path = Path(image)
        name = str(path)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                # Reading a pipe could block, and reading a device could never end.
                raise InvalidImageError(f"{name}: not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise InvalidImageError(f"{name}: {status.st_size} bytes; the limit is {MAX_FILE_BYTES}")
            with path.open("rb") as file:
                # Limited, because the file may be growing.
                content = file.read(status.st_size)
        except InvalidImageError:
            raise
        except (OSError, ValueError) as exc:
            raise InvalidImageError(f"{name}: {os_reason(exc)}") from exc
    return name, content


def _reduction(header: Header, preprocessing: Preprocessing) -> int:
    """The largest divisor of a JPEG's size (1, 2, 4 or 8) that leaves at least the size to which it is resized."""
    if header.format != "JPEG":
        return 1
    # EXIF orientation may rotate the image by 90 degrees, so the reduced size must be sufficient either way.
    scale = min(
        min(height / required_height, width / required_width)
        for height, width in ((header.height, header.width), (header.width, header.height))
        for required_height, required_width in [_required_size(height, width, preprocessing)]
    )
    return next((reduction for reduction in (8, 4, 2) if scale >= reduction), 1)


def _required_size(height: int, width: int, preprocessing: Preprocessing) -> tuple[float, float]:
    """Height and width to which the whole image is scaled, before pixels are cut off or added."""
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
            f"array of {pixels.dtype} {list(pixels.shape)}: pixels must be uint8 [height, width, 3] RGB "
            "or [height, width] grey"
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
    # The result is that of torchvision's Resize and CenterCrop; cropping first resizes only the pixels that are kept.
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
