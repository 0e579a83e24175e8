"""The benchmark of the preprocessing: the time to decode and resize an image.

The contenders are each revision of `tamiz.preprocessing.prepare`, and ``opencv``: ``cv2.imread`` and ``cv2.resize``
without checks of the file and without its orientation tag. They run in one thread, in interleaved rounds, on files in
the page cache.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import cv2

from tamiz.arguments import check_choice, check_progress, check_seconds, check_whole
from tamiz.preprocessing import prepare
from tamiz.spec import PREPROCESSING_REVISION, Preprocessing

from .arguments import MAX_SIDE, check_images, check_rounds
from .comparison import Comparison, measure_in_rounds

OPENCV = "opencv"


def compare_preprocessing(
    images: Sequence[Path],
    *,
    size: int = 224,
    colour: Literal["RGB", "L"] = "RGB",
    duration_s: float = 1.0,
    rounds: int = 5,
    on_progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Measure the microseconds per image of each revision of the preprocessing, and of OpenCV alone.

    Args:
        images: image files; see `tamiz_bench.sample_images`.
        size: height and width of the prepared image in pixels.
        colour: colour of the prepared image, ``RGB`` or ``L`` (grey).
        duration_s: duration of each measurement in seconds.
        rounds: number of interleaved rounds.
        on_progress: called with one line of text after each measurement.

    Returns:
        µs per image of ``opencv``, ``revision 1`` and so on.

    Raises:
        UsageError: an argument is wrong.
        InvalidImageError: an image is unreadable.
    """
    check_images(images)
    check_whole("size", size, most=MAX_SIDE)
    check_choice("colour", colour, ("RGB", "L"))
    check_seconds("duration_s", duration_s)
    check_rounds(rounds)
    check_progress(on_progress)
    functions: dict[str, Callable[[Path], object]] = {OPENCV: partial(_prepare_with_opencv, size=size, colour=colour)}
    for revision in range(1, PREPROCESSING_REVISION + 1):
        settings = Preprocessing.model_validate({"revision": revision, "height": size, "width": size, "colour": colour})
        functions[f"revision {revision}"] = partial(prepare, preprocessing=settings)
    for path in images:
        # Brings the file into the page cache, and raises the error of an unreadable image before the measurements.
        prepare(path, settings)
    contenders = {
        name: partial(_microseconds_per_image, function, images, duration_s) for name, function in functions.items()
    }
    return measure_in_rounds(contenders, rounds, "µs per image", on_progress)


def _prepare_with_opencv(path: Path, size: int, colour: Literal["RGB", "L"]) -> object:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR if colour == "RGB" else cv2.IMREAD_GRAYSCALE)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def _microseconds_per_image(function: Callable[[Path], object], images: Sequence[Path], duration_s: float) -> float:
    started = time.perf_counter()
    for count, path in enumerate(itertools.cycle(images), 1):
        function(path)
        if (elapsed := time.perf_counter() - started) > duration_s:
            return elapsed / count * 1e6
    raise AssertionError("the list of images is empty")
