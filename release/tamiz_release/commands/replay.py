"""``tamiz replay``: classify a sample of the images of a bulk job again, by the version that its results name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import ExitCode, note_line, print_json, print_table, progress_line
from tamiz.errors import UsageError
from tamiz.image_bar import ImageBar
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    RepositoryOption,
    make_tls,
    parse_headers,
)
from tamiz_server.repository import Repository

from ..replay import Replay, replay_results

MAX_SHOWN = 20
"""Largest number of images that are named."""

LAST_BITS = (
    "the last bits of a probability may differ with the batch size, the number of threads, the processor, and the "
    "releases of ONNX Runtime and OpenCV"
)


def replay(
    results: Annotated[
        Path, typer.Argument(help="Results of `tamiz classify`: a .csv, .jsonl or .parquet file.", show_default=False)
    ],
    sample: Annotated[int, typer.Option(min=1, help="Number of images to classify again, drawn at random.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Name of the model, for results that were written without --provenance.")
    ] = None,
    root: Annotated[
        Path, typer.Option(help="Folder that relative paths in the results begin at; default: the current one.")
    ] = Path(),
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="Ask this running server instead, grpc://host:port; it must have the version loaded."
        ),
    ] = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> int:
    """Classify a sample of the images of a bulk job again, and say whether the results are the same to the bit.

    The version that the results name classifies them: that of the repository, in this process, or that of a running
    server. With the hashes of --provenance it is also checked that it is the same version. The exit code is 1 if a
    result differs or a version is gone, and 3 if only images are missing.
    """
    headers, tls = parse_headers(header), make_tls(ca, certificate, certificate_key)
    if url is None and (headers or tls):
        raise UsageError("certificates and headers are for the connection to a server; pass its --url")
    from ..replayed_version import open_on_disk, open_on_server

    opened = open_on_disk(Repository(repository)) if url is None else open_on_server(url, headers=headers, tls=tls)
    with ImageBar("replay", sample) as bar:
        found = replay_results(
            results, opened, model=model, sample=sample, seed=seed, root=root, on_image=lambda: bar.advance(1)
        )
    if as_json:
        summary = {
            "same": found.same,
            "other_labels": found.other_labels,
            "largest_difference": found.largest_difference,
        }
        print_json({**asdict(found), **summary})
    else:
        _print(found, results, "in this process" if url is None else f"by {url}")
    if found.differences or found.missing_versions or not found.replayed:
        return ExitCode.FAILED
    return ExitCode.UNREADABLE_IMAGES if found.missing_images else ExitCode.SUCCESS


def _print(found: Replay, results: Path, where: str) -> None:
    for path, reason in found.missing_images[:MAX_SHOWN]:
        note_line(f"not replayed: {path}: {reason}")
    if len(found.missing_images) > MAX_SHOWN:
        note_line(f"not replayed: {len(found.missing_images) - MAX_SHOWN:,} more images that are missing")
    for version, count, reason in found.missing_versions:
        note_line(f"not replayed: {count:,} images of {version}: {reason}")
    if found.differences:
        print_table(
            ("image", "recorded", "", "now", ""),
            (
                (each.path, each.label, f"{each.score:.9g}", each.label_now, f"{each.score_now:.9g}")
                for each in found.differences[:MAX_SHOWN]
            ),
        )
        if len(found.differences) > MAX_SHOWN:
            progress_line(f"and {len(found.differences) - MAX_SHOWN:,} more images; --json has all")
    progress_line(
        f"{results}: {found.same:,} of {found.replayed:,} images that were classified again {where} have the same "
        f"labels and probabilities, to the bit ({found.results:,} results in the file)"
    )
    if found.differences:
        others = f"{found.other_labels:,} images have another label"
        progress_line(
            f"{others}; the largest difference of a probability is {found.largest_difference:.2g}; {LAST_BITS}"
        )
    if not found.replayed:
        progress_line("nothing was replayed, so nothing is known about the results")
