"""``tamiz bench training``: the trainer beside a PyTorch loop and a loop that loads no images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tamiz.console import print_json
from tamiz.options import JsonOption

from ..comparison import print_comparison
from ..report_files import prepare_folder, write_json
from ..training import PYTORCH_LOOP, Workload, compare_training
from .options import ReportOption, RoundsOption
from .progress import print_progress


def training(
    model: Annotated[str, typer.Option(help="Name of a timm model.")] = Workload.model,
    size: Annotated[
        int, typer.Option(min=32, help="Height and width of the network's input in pixels.")
    ] = Workload.size,
    batch_size: Annotated[int, typer.Option(min=2, help="Number of images in each step.")] = Workload.batch_size,
    workers: Annotated[
        int, typer.Option(min=0, help="Number of worker processes that load images.")
    ] = Workload.workers,
    precision: Annotated[
        Literal["32-true", "bf16-mixed"], typer.Option(help="Float32, or bfloat16 autocast.")
    ] = Workload.precision,
    images: Annotated[
        int, typer.Option(min=32, help="Number of JPEG files of 400×533 pixels in an epoch.")
    ] = Workload.images,
    rounds: RoundsOption = 3,
    out: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the speed of training with a PyTorch loop, and with a loop that loads no images.

    The report is written to reports/training unless --out names another folder.
    """
    folder = out or Path("reports/training")
    prepare_folder(folder)
    workload = Workload(model, size, batch_size, workers, precision, images)
    report = compare_training(workload, rounds=rounds, on_progress=print_progress)
    print_comparison(report.comparison, PYTORCH_LOOP)
    write_json(report.to_dict(), folder)
    print(f"report: {folder}/report.json")
    if as_json:
        print_json(report.to_dict())
