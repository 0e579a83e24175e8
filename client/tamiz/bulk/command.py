"""``tamiz classify``: classify the images of files, folders, tar files and lists with a served model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ..client import Client
from ..console import ExitCode, note_line, print_json, progress_line
from ..errors import UsageError
from ..image_files import summarise
from ..options import (
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    ModelOption,
    UrlOption,
    make_tls,
    parse_headers,
)
from ..transports import DEFAULT_URL
from .inputs import find_inputs
from .job import Job, run_job
from .journal import journal_path
from .results import check_output, print_records


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders, quoted patterns such as '*.png', tar files, and lists: a .csv file with a "
            'column named "path", or a .txt file with one path per line; paths are relative to the folder of the list.'
        ),
    ],
    model: ModelOption,
    url: UrlOption = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels for each image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the results to this .csv, .jsonl or .parquet file.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted job that was writing --out.")
    ] = False,
    provenance: Annotated[
        bool,
        typer.Option("--provenance", help="Add the hashes of the version, the server and the time to each result."),
    ] = False,
    timeout_s: Annotated[float, typer.Option(help="Timeout of a request in seconds, retries included.")] = 60.0,
    in_flight: Annotated[
        int | None, typer.Option(min=1, help="Number of requests in flight; default: adapts to the server.")
    ] = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Classify images with a served model.

    An unreadable image is written as a row with its error, and the command exits with 3. With --out, results are saved
    as they arrive, and --resume continues an interrupted job without missing or duplicate rows.
    """
    if resume and out is None:
        raise UsageError("--resume needs --out, the output file of the interrupted job")
    if out is not None:
        check_output(out)
        # The journal is removed when a job is complete.
        if resume and out.exists() and not journal_path(out).exists():
            note_line(f"{out} is complete: nothing to resume; to write it again, omit --resume")
            return ExitCode.SUCCESS
    job = Job(model, paths, top_k, in_flight, out, resume, provenance)
    left_out = Counter[str]()
    inputs = find_inputs(paths, left_out)
    headers, tls = parse_headers(header), make_tls(ca, certificate, certificate_key)
    with Client(url, model=model, timeout_s=timeout_s, headers=headers, tls=tls) as client:
        result = run_job(job, client, inputs)
    if as_json:
        document = {
            "model": model,
            "images": result.images,
            "errors": result.errors,
            "left_out": left_out,
            "seconds": round(result.seconds, 3),
        }
        print_json(document if out else {**document, "results": result.records})
    else:
        if result.records:
            print_records(result.records)
        images = "1 image" if result.images == 1 else f"{result.images:,} images"
        summary = f"{images}, {result.errors:,} of them unreadable, {result.images_per_s:,.0f} images/s"
        progress_line(f"{summary}; results in {out}" if out else summary)
        if left_out:
            print(summarise(left_out))
    return ExitCode.UNREADABLE_IMAGES if result.errors else ExitCode.SUCCESS
