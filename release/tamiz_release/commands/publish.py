"""``tamiz publish``: add a run to the model repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamiz.console import print_json, print_next, progress_line
from tamiz.errors import UsageError
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    KeyOption,
    ReasonOption,
    RepositoryOption,
    RunningServerOption,
    make_tls,
    name_repository,
    parse_headers,
)
from tamiz_server.control import open_control
from tamiz_server.promotion import describe_live
from tamiz_server.repository import Repository
from tamiz_train.run import Run

from ..registry import is_registry_uri
from .arguments import ForceOption, GateImagesOption, GateLimitOption

if TYPE_CHECKING:
    from ..publication import PublishedVersion


def publish(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|model.onnx|models:/NAME@ALIAS",
            help="A run, a graph that `tamiz export` wrote, or a version in MLflow's registry (models:/NAME@champion, "
            "models:/NAME/3).",
        ),
    ],
    model: Annotated[
        str | None, typer.Option(help="Name of the model. Default for a run: the name of its recipe.")
    ] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the live one.")] = False,
    images: GateImagesOption = None,
    limit: GateLimitOption = None,
    force: ForceOption = None,
    apply_serving: Annotated[
        bool,
        typer.Option("--apply-serving", help="Replace the serving settings of the published model by the recipe's."),
    ] = False,
    reason: ReasonOption = "",
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a run to the model repository as the model's next version, if it passes the gate.

    The gate compares the exported graph with the run on held-out images, and with the live version on images that
    neither was trained on. A graph that fails is not published; the page that the message names says why.

    The first version goes live at once; a later one goes live when it is promoted. With --url, the running server
    loads the version when it goes live.
    """
    from ..gate import folder_images, parse_limits

    limits = parse_limits(limit)
    if force is not None and not force.strip():
        raise UsageError("--force: say why; the reason is recorded with the version")
    store = Repository(repository)
    add: Callable[..., PublishedVersion]
    server = open_control(url, key, tls=make_tls(ca, certificate, certificate_key), headers=parse_headers(header))
    if source.suffix == ".onnx":
        if not source.is_file():
            raise UsageError(f"{source}: no such file")
        if model is None:
            raise UsageError("--model: give the name of the model to publish this graph to")
        if apply_serving:
            raise UsageError("--apply-serving: a graph has no serving settings; publish a run")
        from tamiz_train.graph import read_spec

        from ..publication import publish_graph

        spec, add = read_spec(source), partial(publish_graph, source)
    elif is_registry_uri(str(source)):
        from ..publication import publish_registered
        from ..registered_version import read_name

        model = model or read_name(str(source))
        # Its spec is known when it has been downloaded.
        spec, add = None, partial(publish_registered, str(source), images=images, apply_serving=apply_serving)
    else:
        run = Run.find(source)
        from ..publication import publish_run

        model = model or run.recipe.name
        spec, add = run.spec, partial(publish_run, run, apply_serving=apply_serving)
    if images is not None and spec is not None:
        add = partial(add, images=folder_images(images, spec))
    add = partial(add, limits=limits, force=force)
    with server as control:
        before = _loaded_numbers(store, model)
        published = add(store, model=model, promote=promote, control=control, reason=reason, on_progress=progress_line)
        progress_line(describe_live(store, model, before, control=control))
    if as_json:
        print_json(asdict(published))
    else:
        print_next(*_next(published, repository, url))


def _loaded_numbers(repository: Repository, model: str) -> list[int]:
    is_known = repository.path.is_dir() and model in repository.models()
    return repository.loaded_numbers(model) if is_known else []


def _next(published: PublishedVersion, repository: Path, url: str | None) -> list[object]:
    """Arguments of the command that is useful next."""
    server = [] if url is None else ["--url", url]
    folder = name_repository(repository)
    if published.live != published.version:
        return ["promote", published.model, published.version, *folder, *server]
    if url is None:
        return ["serve", *folder]
    return ["classify", "IMAGES", "--model", published.model, *server]
