"""``tamiz bench served``: a served model beside the in-process limit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from tamiz import Client
from tamiz.bulk.inputs import find_images
from tamiz.console import print_json
from tamiz.errors import UsageError
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    ImagesArgument,
    JsonOption,
    ModelOption,
    RepositoryOption,
    make_tls,
    parse_headers,
)
from tamiz.transports import DEFAULT_URL
from tamiz_server.repository import Repository
from tamiz_server.triton import Triton

from ..benchmark import IN_FLIGHT, run_benchmark
from ..load.closed_loop import sample_images
from ..report import print_report
from ..report_files import prepare_folder, write_report
from .options import DurationOption, ReportOption, RoundsOption
from .progress import print_progress


def served(
    images: ImagesArgument,
    model: ModelOption,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    url: Annotated[str, typer.Option(help="The server of the repository, grpc://host:port.")] = DEFAULT_URL,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    serve: Annotated[bool, typer.Option("--serve", help="Start an embedded Triton for the benchmark.")] = False,
    seconds: DurationOption = 3.0,
    rounds: RoundsOption = 5,
    in_flight: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of requests in flight; repeat the option for several.",
            show_default=", ".join(map(str, IN_FLIGHT)),
        ),
    ] = None,
    out: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a served model with real images, and compare it with the in-process limit.

    The limit takes the same images through the same decoding, resizing and ONNX file in one process, with the
    fastest setting of threads and batch size that is found. Run the server and this command on the same machine.
    The report is written to reports/MODEL unless --out names another folder.
    """
    headers, tls = parse_headers(header), make_tls(ca, certificate, certificate_key)
    if serve and (headers or tls):
        raise UsageError(
            "--serve starts a server that needs neither headers nor certificates; leave out one or the other"
        )
    files = sample_images(find_images(images))
    folder = out or Path("reports") / model
    prepare_folder(folder)
    live = Repository(repository).live_version(model)
    with ExitStack() as stack:
        if serve:
            url = stack.enter_context(Triton(repository)).url
        client = stack.enter_context(Client(url, model=model, timeout_s=60, headers=headers, tls=tls))
        if client.live_version != live.version or client.spec != live.spec:
            raise UsageError(
                f"--repository {repository}: version {live.version} of {model} is live there, but {url} serves "
                f"version {client.live_version}; name the repository that the server serves"
            )
        report = run_benchmark(
            client,
            repository / model / str(live.version) / "model.onnx",
            files,
            duration_s=seconds,
            rounds=rounds,
            in_flight=in_flight or IN_FLIGHT,
            on_progress=print_progress,
        )
    print_report(report)
    write_report(report, folder)
    print(f"report: {folder}/report.json, {folder}/report.png")
    if as_json:
        print_json(report.to_dict())
