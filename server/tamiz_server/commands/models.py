"""``tamiz models``: list the models of a repository or of a running server."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from tamiz.console import note_line, print_json, print_table, progress_line
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
    name_repository,
    parse_headers,
)
from tamiz.transports.requests import ModelState

from ..config import ModelConfig, read_labels, read_summary, was_published
from ..control import Control, open_control
from ..repository import Repository
from ..triton_faults import known_version, setting_warnings
from ..version import Version, summarize


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
    """List models and their versions: which are live, their labels, run and test metrics, when they were published.

    With --url, list what a running server has, and why it does not serve the rest. With --json, also their
    configurations, with whatever an operator or another tool wrote into them.
    """
    tls = make_tls(ca, certificate, certificate_key)
    with open_control(url, key, tls=tls, headers=parse_headers(header)) as control:
        rows = _repository_rows(repository) if control is None else _server_rows(control)
    if as_json:
        print_json(rows)
    elif rows:
        # A column without a single value would only take space; the configuration and the hashes are for programs.
        hidden = {"config", "test_images", "onnx_sha256", "spec_sha256"}
        names = [name for name in rows[0] if name not in hidden and any(row[name] not in (None, "") for row in rows)]
        print_table([name.replace("_", " ") for name in names], ([_cell(row[name]) for name in names] for row in rows))
        for note in _different_test_images(rows, repository):
            progress_line(note)
    else:
        progress_line(f"no models in {url or repository}")


def _server_rows(control: Control) -> list[dict[str, object]]:
    states = control.models()
    # A server gives the configuration only of a model that it has loaded.
    loaded = {state.model for state in states if state.state == "READY"}
    configs = {model: control.config(model) for model in sorted(loaded)}
    version = known_version(control)
    for model, config in configs.items():
        if was_published(config):
            _warn_of_settings(model, config, version)
    return [_server_row(state, configs.get(state.model)) for state in states]


def _server_row(state: ModelState, config: ModelConfig | None) -> dict[str, object]:
    published = config is not None and was_published(config)
    summary = read_summary(config, state.version) if config is not None and published else {}
    return {
        "model": state.model,
        "version": state.version or None,
        "live": state.state == "READY",
        "labels": read_labels(config, state.version) if config is not None and published else None,
        **{name: summary.get(name) for name in summarize({})},
        "state": state.state,
        "reason": state.reason or ("" if config is None or published else "not published by Tamiz"),
        "config": _readable_config(config) if config is not None else None,
    }


def _repository_rows(path: Path) -> list[dict[str, object]]:
    repository = Repository(path)
    rows = []
    for model in repository.models():
        try:
            config = repository.config(model)
            _warn_of_settings(model, config, known_version(None))
            shown = {"note": "", "config": _readable_config(config)}
            rows += [{**_row(version), **shown} for version in repository.versions(model)]
        except RepositoryError as exc:
            # A model that is damaged must not hide the others.
            note_line(f"skipped: {exc}")
    return rows + [_foreign_row(repository, model, note) for model, note in repository.foreign_models().items()]


def _row(version: Version) -> dict[str, object]:
    preprocessing = version.spec.preprocessing
    return {
        "model": version.model,
        "version": version.version,
        "live": version.live,
        "labels": len(version.spec.labels),
        "input": f"{preprocessing.height}x{preprocessing.width} {preprocessing.colour}",
        **summarize(version.manifest),
    }


def _different_test_images(rows: Iterable[Mapping[str, object]], repository: Path) -> Iterator[str]:
    """A line for each model whose versions were measured on different test images."""
    for model, versions in groupby(rows, lambda row: row["model"]):
        groups: dict[object, list[str]] = {}
        for row in versions:
            if row["test_accuracy"] is not None or row["test_f1"] is not None:
                # Test images that are not recorded may be others.
                groups.setdefault(row["test_images"] or row["version"], []).append(str(row["version"]))
        if len(groups) > 1:
            named = (f"version{'s' * (len(group) > 1)} {', '.join(group)}" for group in groups.values())
            models = [f"{model}/{group[0]}" for group in groups.values()][:2]
            command = shlex.join(["tamiz", "compare", *models, *name_repository(repository), "--images", "FOLDER"])
            measured = "measured" if all(isinstance(images, str) for images in groups) else "perhaps measured"
            yield f"{model}: {measured} on different test images: {' / '.join(named)}; on the same ones: {command}"


def _warn_of_settings(model: str, config: ModelConfig, triton_version: str) -> None:
    for warning in setting_warnings(config, triton_version):
        note_line(f"warning: model {model}: {warning}")


def _foreign_row(repository: Repository, model: str, note: str) -> dict[str, object]:
    config = None
    if model in repository.configured():
        try:
            config = _readable_config(repository.config(model))
        except RepositoryError as exc:
            note = f"{note}: {exc}"
    names = ("model", "version", "live", "labels", "input", *summarize({}))
    return {**dict.fromkeys(names), "model": model, "note": note, "config": config}


def _readable_config(config: ModelConfig) -> dict[str, Any]:
    """A configuration as JSON holds it, without the parameters of Tamiz, whose content has columns of its own."""
    document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    parameters = {key: value for key, value in document.get("parameters", {}).items() if not key.startswith("tamiz.")}
    return {**document, "parameters": parameters}


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "live" if value else ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)
