"""``tamiz bench-preprocessing``: what preparing an image costs, beside OpenCV alone.

``bare`` is ``cv2.imread`` and ``cv2.resize``, with none of the checks and no care for orientation; each revision is
`tamiz.preprocessing.prepare`. One thread, the files in the system's cache, contenders in turns.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console
from rich.table import Table

from tamiz.inputs import find_images
from tamiz.preprocessing import prepare
from tamiz.spec import PREPROCESSING_REVISION, Preprocessing


def bench_preprocessing(
    images: Annotated[list[Path], typer.Argument(help="Image files, and folders to search for them.")],
    size: Annotated[int, typer.Option(min=1, help="Pixels of a side of the model's input.")] = 224,
    colour: Annotated[str, typer.Option(help="RGB or L.")] = "RGB",
    seconds: Annotated[float, typer.Option(min=0.01, help="Of each measurement.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="In which the contenders take turns.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, last.")] = False,
) -> None:
    """Measure the time to prepare an image, by each revision of the preprocessing and by OpenCV alone."""
    files = find_images(images)
    flag = cv2.IMREAD_COLOR if colour == "RGB" else cv2.IMREAD_GRAYSCALE

    def bare(path: Path) -> object:
        return cv2.resize(cv2.imread(str(path), flag), (size, size), interpolation=cv2.INTER_LINEAR)

    contenders: dict[str, Callable[[Path], object]] = {"bare": bare}
    for revision in range(1, PREPROCESSING_REVISION + 1):
        settings = Preprocessing.model_validate({"revision": revision, "height": size, "width": size, "colour": colour})
        contenders[f"revision {revision}"] = lambda path, settings=settings: prepare(path, settings)
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for path in files:
        path.read_bytes()
    for _ in range(rounds):
        for name, function in contenders.items():
            costs[name].append(_microseconds(function, files, seconds))
    table = Table("", "µs an image, median", "lowest", "highest", "÷ bare, median")
    for name, cost in costs.items():
        ratio = statistics.median(one / bare for one, bare in zip(cost, costs["bare"], strict=True))
        table.add_row(
            name, *(f"{figure:,.0f}" for figure in (statistics.median(cost), min(cost), max(cost))), f"{ratio:.2f}"
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if as_json:
        print(json.dumps({"images": len(files), "size": size, "colour": colour, "microseconds": costs}))


def _microseconds(function: Callable[[Path], object], files: list[Path], seconds: float) -> float:
    began = time.perf_counter()
    for count, path in enumerate(itertools.cycle(files), 1):
        function(path)
        if (elapsed := time.perf_counter() - began) > seconds:
            return elapsed / count * 1e6
    raise AssertionError("there are no files")
