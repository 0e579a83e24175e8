"""``tamiz models``: list the models of a repository or of a running server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import print_json, print_table
from tamiz.errors import RepositoryError
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    KeyOption,
    RepositoryOption,
    make_tls,
    parse_headers,
)

from ..control import Control, open_control
from ..repository import Repository
from ..version import Version


def models(
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    url: Annotated[
        str | None,
        typer.Option("--url", help="List the models of this running server instead, grpc://host:port."),
    ] = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """List models and their versions: which are live, their test accuracy, when they were published.

    With --url, list the models of a running server with their states.
    """
    tls = make_tls(ca, certificate, certificate_key)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        rows = _repository_rows(repository) if control is None else _server_rows(control)
    if as_json:
        print_json(rows)
    elif rows:
        headers = [name.replace("_", " ") for name in rows[0]]
        print_table(headers, ([_cell(value) for value in row.values()] for row in rows))
    else:
        print(f"no models in {url or repository}")


def _server_rows(control: Control) -> list[dict[str, object]]:
    return [
        {"model": state.model, "version": state.version, "state": state.state, "reason": state.reason}
        for state in control.models()
    ]


def _repository_rows(path: Path) -> list[dict[str, object]]:
    repository = Repository(path)
    rows = []
    for model in repository.models():
        try:
            rows += [_row(version) for version in repository.versions(model)]
        except RepositoryError as exc:
            # A model that is damaged, or that Tamiz did not publish, must not hide the others.
            print(f"skipped: {exc}", file=sys.stderr)
    return rows


def _row(version: Version) -> dict[str, object]:
    preprocessing = version.spec.preprocessing
    test_metrics = (version.manifest.get("metrics") or {}).get("test") or {}
    return {
        "model": version.model,
        "version": version.version,
        "live": version.live,
        "labels": len(version.spec.labels),
        "input": f"{preprocessing.height}x{preprocessing.width} {preprocessing.colour}",
        "test_accuracy": test_metrics.get("accuracy"),
        "published": version.manifest.get("published"),
    }


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "live" if value else ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
