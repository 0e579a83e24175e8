"""``tamiz bench precisions``: FP32, INT8 and FP16 graphs of one network, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tamiz.bulk.inputs import find_images
from tamiz.console import print_json
from tamiz.options import JsonOption
from tamiz_train.run import Run, holds_runs

from ..load.closed_loop import sample_images
from ..precisions import compare_random_network, compare_run, print_precisions
from ..report_files import prepare_folder, write_json
from .options import ReportOption, RoundsOption
from .progress import print_progress


def precisions(
    source: Annotated[
        str, typer.Argument(metavar="RUN|NETWORK", help="A run; or a network of timm, which gets random weights.")
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photographs that calibrate a network of random weights.")
    ] = None,
    precision: Annotated[
        Literal["int8", "fp16", "both"], typer.Option(help="The precision that is compared with FP32.")
    ] = "both",
    budget: Annotated[float, typer.Option(min=1, help="Time budget of each search in seconds.")] = 300,
    rounds: RoundsOption = 15,
    out: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the precisions of a network: speed on one thread with batches of 1 and 8, size, and accuracy.

    The report is written to reports/NAME-precisions unless --out names another folder.
    """
    options = {
        "precisions": ("int8", "fp16") if precision == "both" else (precision,),
        "budget_s": budget,
        "rounds": rounds,
        "on_progress": print_progress,
    }
    is_run = holds_runs(Path(source))
    folder = out or Path("reports") / f"{Path(source).name}-precisions"
    prepare_folder(folder)
    if is_run:
        report = compare_run(Run.find(source), **options)
    else:
        files = sample_images(find_images([images])) if images is not None else []
        report = compare_random_network(source, files, **options)
    print_precisions(report)
    write_json(report.to_dict(), folder)
    print(f"report: {folder}/report.json")
    if as_json:
        print_json(report.to_dict())
