"""``tamiz bench client``: the client beside a script written from tritonclient's documentation."""

from __future__ import annotations

from pathlib import Path

from tamiz.bulk.inputs import find_images
from tamiz.console import print_json
from tamiz.options import DEFAULT_REPOSITORY, ImagesArgument, JsonOption, ModelOption, RepositoryOption
from tamiz_server.repository import Repository

from ..client import LIMIT, compare_clients
from ..comparison import print_comparison
from ..load.closed_loop import sample_images
from ..report_files import prepare_folder, write_json
from .options import DurationOption, ReportOption, RoundsOption
from .progress import print_progress


def client(
    images: ImagesArgument,
    model: ModelOption,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    seconds: DurationOption = 4.0,
    rounds: RoundsOption = 5,
    out: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the client with a script written from tritonclient's documentation, and with the in-process limit.

    An embedded Triton serves a copy of the model for the benchmark. The report is written to reports/MODEL-client
    unless --out names another folder.
    """
    files = sample_images(find_images(images))
    folder = out or Path("reports") / f"{model}-client"
    prepare_folder(folder)
    report = compare_clients(
        Repository(repository), model, files, duration_s=seconds, rounds=rounds, on_progress=print_progress
    )
    print_comparison(report.comparison, LIMIT)
    write_json(report.to_dict(), folder)
    print(f"report: {folder}/report.json")
    if as_json:
        print_json(report.to_dict())
