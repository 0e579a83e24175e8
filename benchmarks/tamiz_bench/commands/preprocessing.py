"""``tamiz bench preprocessing``: the time to decode and resize an image."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tamiz.bulk.inputs import find_images
from tamiz.console import print_json
from tamiz.options import ImagesArgument, JsonOption

from ..comparison import print_comparison
from ..load.closed_loop import sample_images
from ..preprocessing import OPENCV, compare_preprocessing
from .options import RoundsOption
from .progress import print_progress


def preprocessing(
    images: ImagesArgument,
    size: Annotated[
        int, typer.Option(min=1, max=16384, help="Height and width of the prepared image in pixels.")
    ] = 224,
    colour: Annotated[
        Literal["RGB", "L"], typer.Option(help="Colour of the prepared image: RGB, or L for grey.")
    ] = "RGB",
    seconds: Annotated[float, typer.Option(min=0.01, help="Duration of each measurement in seconds.")] = 1.0,
    rounds: RoundsOption = 5,
    as_json: JsonOption = False,
) -> None:
    """Measure the time to decode and resize an image, by each revision of the preprocessing and by OpenCV alone."""
    files = sample_images(find_images(images))
    comparison = compare_preprocessing(
        files, size=size, colour=colour, duration_s=seconds, rounds=rounds, on_progress=print_progress
    )
    print_comparison(comparison, OPENCV)
    if as_json:
        print_json({"images": len(files), "size": size, "colour": colour, "us_per_image": comparison.figures})
