"""``tamiz bench-preprocessing``: what preparing an image costs, beside OpenCV alone.

``bare`` is ``cv2.imread`` and ``cv2.resize``, with none of the checks and no care for orientation; each revision is
`tamiz.preprocessing.prepare`. One thread, the files in the system's cache, contenders in turns.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cv2
import typer

from tamiz.bulk.inputs import find_images
from tamiz.preprocessing import prepare
from tamiz.spec import PREPROCESSING_REVISION, Preprocessing

from .measure import sample
from .turns import print_figures, take_turns


def bench_preprocessing(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    size: Annotated[int, typer.Option(min=1, max=16384, help="Pixels of a side of the model's input.")] = 224,
    colour: Annotated[Literal["RGB", "L"], typer.Option(help="RGB, or L for grey.")] = "RGB",
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="In which the contenders take turns.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")] = False,
) -> None:
    """Measure the time to prepare an image, by each revision of the preprocessing and by OpenCV alone."""
    files = sample(find_images(images))
    flag = cv2.IMREAD_COLOR if colour == "RGB" else cv2.IMREAD_GRAYSCALE

    def bare(path: Path) -> object:
        return cv2.resize(cv2.imread(str(path), flag), (size, size), interpolation=cv2.INTER_LINEAR)

    prepares: dict[str, Callable[[Path], object]] = {"bare": bare}
    for revision in range(1, PREPROCESSING_REVISION + 1):
        settings = Preprocessing.model_validate({"revision": revision, "height": size, "width": size, "colour": colour})
        prepares[f"revision {revision}"] = partial(prepare, preprocessing=settings)
    for path in files:
        # Into the system's cache; and a broken one is told.
        prepare(path, settings)
    contenders = {name: partial(_microseconds, one, files, seconds) for name, one in prepares.items()}
    costs = take_turns(contenders, rounds, "µs", partial(print, file=sys.stderr, flush=True))
    print_figures(costs, "µs an image", "bare")
    if as_json:
        print(json.dumps({"images": len(files), "size": size, "colour": colour, "microseconds": costs}))


def _microseconds(function: Callable[[Path], object], files: list[Path], seconds: float) -> float:
    began = time.perf_counter()
    for count, path in enumerate(itertools.cycle(files), 1):
        function(path)
        if (elapsed := time.perf_counter() - began) > seconds:
            return elapsed / count * 1e6
    raise AssertionError("there are no files")
