"""``tamiz publish``: add a run, or a classifier of another tool, to the model repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamiz.console import print_json, print_next, progress_line
from tamiz.errors import UsageError
from tamiz.extras import extra_required
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    KeyOption,
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

from ..sources.base import TIMM

if TYPE_CHECKING:
    from ..publication import PublishedVersion


def publish(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|model.onnx|timm:NAME",
            help="A run, an ONNX classifier of any tool, or a pretrained model of timm (timm:resnet50).",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Name of the model. Default for a run: the name of its recipe; for timm: that of the model."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The labels of an ONNX file, in the order of its outputs: one per line (.txt), or JSON. Default: what "
            "is in the file, or model.labels.txt beside it.",
        ),
    ] = None,
    preprocessing: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How images are prepared for an ONNX file (.yaml or .json): preprocessing and normalisation as in a "
            "recipe, and what the graph does not say. Default: what is in the file, or model.preprocessing.yaml beside "
            "it.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Local weights of a model of timm (.safetensors). Default: timm downloads."),
    ] = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the live one.")] = False,
    apply_serving: Annotated[
        bool,
        typer.Option("--apply-serving", help="Replace the serving settings of the published model by the recipe's."),
    ] = False,
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a run, or a classifier of another tool, to the model repository as the model's next version.

    An ONNX file of any tool is put into the standard form: uint8 images in, probabilities out. This needs no PyTorch.

    The first version goes live at once; a later one goes live when it is promoted. With --url, the running server
    loads the version when it goes live.
    """
    store = Repository(repository)
    server = open_control(url, key, tls=make_tls(ca, certificate, certificate_key), headers=parse_headers(header))
    name, extra, add = _open(source, model, labels, preprocessing, weights, apply_serving)
    with server as control, extra_required(extra):
        before = _loaded_numbers(store, name)
        published = add(store, model=name, promote=promote, control=control, on_progress=progress_line)
        progress_line(describe_live(store, name, before, control=control))
    if as_json:
        print_json(asdict(published))
    else:
        print_next(*_next(published, repository, url))


def _open(
    source: str,
    model: str | None,
    labels: Path | None,
    preprocessing: Path | None,
    weights: Path | None,
    apply_serving: bool,
) -> tuple[str, str, Callable[..., PublishedVersion]]:
    """The name of the model, the extras that the source needs, and the function that publishes it."""
    is_graph, is_timm = source.endswith(".onnx"), source.startswith(TIMM)
    _refuse("--labels", labels, is_graph or is_timm, "a run has its own labels")
    _refuse("--preprocessing", preprocessing, is_graph, "only an ONNX file needs it")
    _refuse("--weights", weights, is_timm, "only a model of timm needs it, as in timm:resnet50")
    _refuse("--apply-serving", apply_serving or None, not is_graph and not is_timm, "only a run has serving settings")
    if is_graph:
        return _open_graph(Path(source), model, labels, preprocessing)
    if is_timm:
        return _open_timm(source.removeprefix(TIMM), model, labels, weights)
    run = Run.find(source)
    from ..publication import publish_run

    return model or run.recipe.name, "train,cpu", partial(publish_run, run, apply_serving=apply_serving)


def _refuse(option: str, value: object, has_meaning: bool, reason: str) -> None:
    if value is not None and not has_meaning:
        raise UsageError(f"{option}: {reason}; leave it out")


def _open_graph(
    path: Path, model: str | None, labels: Path | None, preprocessing: Path | None
) -> tuple[str, str, Callable[..., PublishedVersion]]:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if model is None:
        raise UsageError("--model: give the name of the model to publish this graph to")
    from ..adaptation import examine, read_description
    from ..publication import publish_graph

    given = labels is not None or preprocessing is not None
    adaptation = examine(path, read_description(path, labels, preprocessing) if given else None)
    return model, "release,cpu", partial(publish_graph, path, adaptation=adaptation)


def _open_timm(
    name: str, model: str | None, labels: Path | None, weights: Path | None
) -> tuple[str, str, Callable[..., PublishedVersion]]:
    with extra_required("train,cpu"):
        from ..sources.timm_model import TimmSource
    from ..adaptation.description import read_labels
    from ..publication import publish_timm

    source = TimmSource(name, weights, None if labels is None else read_labels(labels))
    return model or name.partition(".")[0], "train,cpu", partial(publish_timm, source)


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
