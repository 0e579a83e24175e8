"""Preprocessing: from an image file to the uint8 array that is the input of a model.

Evaluation, the check of an export and every client call the same `prepare`, so their inputs cannot differ. A change
that alters one pixel needs a new `PREPROCESSING_REVISION`; hashes of golden images in the tests make sure of it.

Revisions:

1. decodes the whole image and resizes it.
2. decodes a JPEG that has at least twice the required size at a half, a quarter or an eighth of its size.
   libjpeg-turbo does this in the frequency domain, which is several times faster and avoids the aliasing of a linear
   resize from the whole image.
3. shows transparent images on white, and applies the EXIF orientation of WebP files. Before, the colour that a file
   stores for transparent pixels was used, whatever it is, and WebP files were not turned.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from .arguments import check_type, show
from .errors import InvalidImageError, os_reason, shorten
from .image_header import MAX_FILE_BYTES, Header, read_header
from .spec import PREPROCESSING_REVISION, Preprocessing

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

_MAX_PATH = 4096
"""The longest path of Linux (``PATH_MAX``); what is longer is often an image file in base64."""

_MAX_NAME = 300
"""The number of characters of an image's path in messages."""

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
        UsageError: ``preprocessing`` is something else.
    """
    check_type("preprocessing", preprocessing, Preprocessing, "the tamiz.Preprocessing of a model's spec")
    colour, revision = preprocessing.colour, preprocessing.revision
    return resize(decode(image, colour, revision=revision, enough_for=preprocessing), preprocessing)


def decode(
    image: ImageSource,
    colour: str,
    *,
    revision: int = PREPROCESSING_REVISION,
    enough_for: Preprocessing | None = None,
) -> Pixels:
    """Decode an image to pixels in display orientation.

    EXIF orientation is applied, transparent images are shown on white, and palettes, CMYK and 16-bit values become
    8-bit RGB or grey.

    Args:
        image: a path, the bytes of an image file, or pixels.
        colour: ``RGB`` or ``L``.
        revision: revision of the preprocessing.
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
    reduction = _reduction(header, enough_for) if enough_for is not None and revision >= 2 else 1
    # Not IMREAD_GRAYSCALE, for which each codec has its own conversion: a file and its pixels must give the same grey.
    flag = cv2.IMREAD_COLOR_RGB if colour == "RGB" else cv2.IMREAD_ANYCOLOR
    encoded = np.frombuffer(content, np.uint8)
    show_on_white = header.alpha and revision >= 3
    try:
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED if show_on_white else flag | _REDUCED[reduction])
    except cv2.error as exc:
        raise InvalidImageError(f"{name}: {exc.err or 'cannot be decoded'}") from exc
    if pixels is None:
        raise InvalidImageError(f"{name}: this {header.format} file cannot be decoded")
    if show_on_white:
        pixels = _on_white(pixels, colour, premultiplied=header.format == "TIFF" and pixels.dtype == np.uint8)
    elif colour == "L" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    # OpenCV applies the orientation of TIFF files always, that of PNG files without transparency, and never of WebP.
    if revision >= 3 and (header.format == "WebP" or (header.format == "PNG" and show_on_white)):
        pixels = _upright(pixels, header.orientation)
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
        try:
            content = bytes(image)
        except ValueError as exc:
            raise InvalidImageError(f"memoryview: {exc}") from exc
        return f"{len(content)} bytes", content
    try:
        path = Path(image)  # type: ignore[arg-type]
    except Exception as exc:
        raise InvalidImageError(
            f"{show(image)}: not an image; give a path, the bytes of an image file, or a uint8 array"
        ) from exc
    name = shorten(str(path), _MAX_NAME).replace("\n", "\\n")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            # Reading a pipe could block, and reading a device could never end.
            raise InvalidImageError(f"{name}: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise InvalidImageError(f"{name}: {status.st_size} bytes; the limit is {MAX_FILE_BYTES}")
        with path.open("rb") as file:
            # Limited, because the file may be growing.
            return name, file.read(status.st_size)
    except InvalidImageError:
        raise
    except (OSError, ValueError) as exc:
        hint = "; give a path, or the decoded bytes of an image file" if len(str(path)) > _MAX_PATH else ""
        raise InvalidImageError(f"{name}: {os_reason(exc)}{hint}") from exc


def _on_white(pixels: MatLike, colour: str, *, premultiplied: bool) -> Pixels:
    """Show decoded pixels on white.

    Args:
        pixels: uint8 or uint16 ``[height, width, 4]``, blue, green, red and alpha; other shapes have no alpha.
        colour: ``RGB`` or ``L``.
        premultiplied: whether the colours are multiplied by alpha already, as libtiff returns 8-bit images.

    Returns:
        uint8 ``[height, width, 3]`` for RGB, ``[height, width]`` for L.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        alpha = cv2.merge([cv2.extractChannel(pixels, 3)] * 3)
        colours = cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)
        if premultiplied:
            pixels = cv2.add(colours, cv2.bitwise_not(alpha))
        else:
            # White minus what the image takes away from it.
            pixels = cv2.bitwise_not(_scaled_product(cv2.bitwise_not(colours), alpha))
    if pixels.dtype == np.uint16:
        # As OpenCV converts 16 bits to 8.
        pixels = np.right_shift(pixels, 8, dtype=np.uint16).astype(np.uint8)
    if pixels.ndim == 2:
        return pixels if colour == "L" else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if colour == "RGB" else cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def _scaled_product(first: MatLike, second: MatLike) -> MatLike:
    """The product of two images of uint8 or uint16 whose largest value stands for 1, rounded to the nearest."""
    if first.dtype == np.uint8:
        # In float32, which is exact enough: no product of whole numbers divided by 255 lies near a half.
        return cv2.multiply(first, second, scale=1 / 0xFF)
    return ((first.astype(np.uint32) * second + 0x7FFF) // 0xFFFF).astype(np.uint16)


def _upright(pixels: MatLike, orientation: int) -> MatLike:
    """Turn stored pixels as their EXIF orientation says (EXIF 2.32, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = cv2.transpose(pixels)
    # Mirrored left to right, top to bottom, or both, after the transposition.
    mirror = {2: 1, 6: 1, 4: 0, 8: 0, 3: -1, 7: -1}.get(orientation)
    return pixels if mirror is None else cv2.flip(pixels, mirror)


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
