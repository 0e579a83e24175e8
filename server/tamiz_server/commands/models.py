"""``tamiz models``: list the models of a repository or of a running server."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, TypeAlias

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
    name_repository,
)
from tamiz.transports.requests import ModelState

from ..config import ModelConfig, read_labels, read_summary, was_published
from ..control import Control
from ..repository import Repository
from ..states import State, version_states
from ..triton_faults import known_version, setting_warnings
from ..version import Version, summarize
from .connection import connect

Row: TypeAlias = dict[str, Any]

_METRICS = ("test_f1", "test_accuracy")
_TITLES = {"age_s": "age", "difference_to_live": "to live"}


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
    """List models and their versions, with their states and test metrics.

    The state is live, canary, shadow, previous (which a rollback makes live) or archived. The test metric has its
    difference to that of the live version if both were measured on the same images. With --url, list what a running
    server has, and why it does not serve the rest. With --json, also their configurations, with whatever an operator or
    another tool wrote into them.
    """
    with connect(url, key, header, ca, certificate, certificate_key) as control:
        rows = _repository_rows(repository) if control is None else _server_rows(control)
    if as_json:
        print_json(rows)
    elif rows:
        # A column without a single value would only take space; other columns are for programs.
        hidden = {"config", "live", "published", "test_images", "onnx_sha256", "spec_sha256"}
        names = [name for name in rows[0] if name not in hidden and any(row[name] not in (None, "") for row in rows)]
        titles = [_TITLES.get(name, name.replace("_", " ")) for name in names]
        print_table(titles, ([_cell(name, row[name]) for name in names] for row in rows))
        for note in _different_test_images(rows, repository):
            progress_line(note)
    else:
        progress_line(f"no models in {url or repository}")


def _server_rows(control: Control) -> list[Row]:
    found = control.models()
    # A server gives the configuration only of a model that it has loaded.
    loaded = {state.model for state in found if state.state == "READY"}
    configs = {model: control.config(model) for model in sorted(loaded)}
    version = known_version(control)
    for model, config in configs.items():
        if was_published(config):
            _warn_of_settings(model, config, version)
    return [
        row
        for model, states in groupby(found, lambda state: state.model)
        for row in _compared(_server_rows_of(list(states), configs.get(model)))
    ]


def _server_rows_of(found: Sequence[ModelState], config: ModelConfig | None) -> list[Row]:
    """The versions of one model that a server knows."""
    if config is None or not was_published(config):
        reason = "" if config is None else "not published by Tamiz"
        return [_server_row(state, {"config": config, "reason": reason}) for state in found]
    ready = [state.version for state in found if state.state == "READY"]
    states = version_states(config, [state.version for state in found if state.version])
    return [
        _server_row(
            state,
            {
                # What the configuration makes live, and what the server has really loaded, are two things.
                "state": states.get(state.version),
                "live": states.get(state.version) is State.LIVE and state.version in ready,
                "labels": read_labels(config, state.version),
                **{name: read_summary(config, state.version).get(name) for name in summarize({})},
                "config": config,
            },
        )
        for state in found
    ]


def _server_row(state: ModelState, known: Mapping[str, Any]) -> Row:
    config = known.get("config")
    return {
        "model": state.model,
        "version": state.version or None,
        "state": known.get("state"),
        "live": known.get("live", state.state == "READY"),
        "labels": known.get("labels"),
        **_measured(known),
        "server": state.state,
        "reason": state.reason or known.get("reason", ""),
        "config": None if config is None else _readable_config(config),
    }


def _repository_rows(path: Path) -> list[Row]:
    repository = Repository(path)
    rows: list[Row] = []
    for model in repository.models():
        try:
            config = repository.config(model)
            _warn_of_settings(model, config, known_version(None))
            shown = {"note": "", "config": _readable_config(config)}
            rows += _compared([{**_row(repository, version), **shown} for version in repository.versions(model)])
        except RepositoryError as exc:
            # A model that is damaged must not hide the others.
            note_line(f"skipped: {exc}")
    return rows + [_foreign_row(repository, model, note) for model, note in repository.foreign_models().items()]


def _row(repository: Repository, version: Version) -> Row:
    preprocessing = version.spec.preprocessing
    folder = repository.path / version.model / str(version.version)
    return {
        "model": version.model,
        "version": version.version,
        "state": version.state,
        "live": version.live,
        "labels": len(version.spec.labels),
        "input": f"{preprocessing.height}x{preprocessing.width} {preprocessing.colour}",
        "size": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        **_measured(summarize(version.manifest)),
    }


def _measured(summary: Mapping[str, Any]) -> Row:
    """The summary of a version with its age in seconds, and room for the difference to the live version."""
    published = summary.get("published")
    try:
        age = (datetime.now(UTC) - datetime.fromisoformat(published)).total_seconds() if published else None
    except (TypeError, ValueError):
        age = None
    known = {name: _scalar(name, summary.get(name)) for name in summarize({})}
    return {**known, "difference_to_live": None, "age_s": age}


def _scalar(name: str, value: object) -> object:
    """An entry of a summary if it has its type; otherwise None, since the files on disk may hold anything."""
    wanted = (int, float) if name in _METRICS else str
    return value if isinstance(value, wanted) else None


def _compared(rows: list[Row]) -> list[Row]:
    """The versions of one model, with the difference of each one's test metric to that of the live version.

    Only where both were measured on the same images, because a difference between others says nothing.
    """
    live = next((row for row in reversed(rows) if row["live"]), None)
    if live is None or not live["test_images"]:
        return rows
    for row in rows:
        same_images = row["test_images"] == live["test_images"]
        for metric in _METRICS:
            if same_images and None not in (row[metric], live[metric]):
                row["difference_to_live"] = row[metric] - live[metric]
    return rows


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
    names = ("model", "version", "state", "live", "labels", "input", "size", *_measured({}))
    return {**dict.fromkeys(names), "model": model, "note": note, "config": config}


def _readable_config(config: ModelConfig) -> dict[str, Any]:
    """A configuration as JSON holds it, without the parameters of Tamiz, whose content has columns of its own."""
    document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    parameters = {key: value for key, value in document.get("parameters", {}).items() if not key.startswith("tamiz.")}
    return {**document, "parameters": parameters}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    match name:
        case "size":
            return _with_unit(value, ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))
        case "age_s":
            return _with_unit(max(value, 0), ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")))
        case "difference_to_live":
            return f"{value:+.4f}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _with_unit(value: float, units: Sequence[tuple[float, str]]) -> str:
    """A value in the largest unit of which it has at least one, of which the units are sorted."""
    size, unit = next((each for each in units if value >= each[0]), units[-1])
    number = value / size
    return f"{number:.1f} {unit}" if number < 10 and size > 1 else f"{number:.0f} {unit}"
