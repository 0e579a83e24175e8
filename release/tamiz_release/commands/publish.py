"""``tamiz publish``: add a run, or a classifier of another tool, to the model repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from tamiz.console import print_json, print_next, progress_line
from tamiz.errors import UsageError
from tamiz.extras import extra_required
from tamiz.image_files import walk
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
    name_repository,
)
from tamiz.spec import ModelSpec
from tamiz_server.commands.connection import connect
from tamiz_server.repository import Repository
from tamiz_train.run import Run

from ..precision.defaults import MAX_LOSS_POINTS
from ..registry import is_registry_uri
from ..sources.base import TIMM
from .arguments import ApplyServingOption, ForceOption, GateImagesOption, GateLimitOption, MaxLossOption, check_force

if TYPE_CHECKING:
    from ..publication import PublishedVersion


def publish(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|model.onnx|timm:NAME|models:/NAME@ALIAS",
            help="A run, an ONNX classifier of any tool, a pretrained model of timm (timm:resnet50), or a version in "
            "MLflow's registry (models:/digits@champion, models:/digits/3).",
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
    precision: Annotated[
        Literal["fp32", "fp16", "int8", "auto"],
        typer.Option(
            help="Precision of the graph of a run, as `tamiz export` makes it, or made it before; auto takes the "
            "fastest on this machine, with its runtime."
        ),
    ] = "fp32",
    target: Annotated[
        Literal["cpu", "tensorrt"],
        typer.Option(
            help="What will compute the graph: a CPU, or TensorRT on a GPU: a run with --precision fp16 or int8, or an "
            "ONNX file in one of these."
        ),
    ] = "cpu",
    engine_cache: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="A folder on the server, in which TensorRT keeps its engines. Default: the server builds them at each "
            "start.",
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(min=1, help="Time budget of the search for a graph of lower precision, in seconds.")
    ] = 300,
    max_loss: MaxLossOption = MAX_LOSS_POINTS,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    promote: Annotated[bool, typer.Option("--promote", help="Make the new version the live one.")] = False,
    images: GateImagesOption = None,
    limit: GateLimitOption = None,
    force: ForceOption = None,
    apply_serving: ApplyServingOption = False,
    reason: ReasonOption = "",
    url: RunningServerOption = None,
    key: KeyOption = None,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a run, or a classifier of another tool, to the model repository as the next version, if it passes the gate.

    An ONNX file of any tool is put into the standard form: uint8 images in, probabilities out. This needs no PyTorch.

    The gate compares the graph with the run or the file that it was made from, on held-out images or those of --images,
    and with the live version on images that neither was trained on. A graph that fails is not published; the page that
    the message names says why.

    The first version goes live at once; a later one goes live when it is promoted. With --url, the running server
    loads the version when it goes live.
    """
    from ..gate import folder_images, parse_limits
    from ..publication_options import PublicationOptions

    limits = parse_limits(limit)
    check_force(force)
    store = Repository(repository)
    server = connect(url, key, header, ca, certificate, certificate_key)
    _refuse("--engine-cache", engine_cache, target == "tensorrt", "only --target tensorrt has engines")
    of_run = {"precision": precision, "budget_s": budget, "max_loss_points": max_loss}
    computed = {} if target == "cpu" else {"target": target, "engine_cache": engine_cache}
    name, spec, extra, add = _open(
        source, model, labels, preprocessing, weights, images, of_run, computed, apply_serving
    )
    if images is not None and spec is not None:
        add = partial(add, images=folder_images(images, spec))
    with server as control, extra_required(extra):
        options = PublicationOptions(limits, force, promote, apply_serving, control=control, reason=reason)
        published = add(store, model=name, options=options, on_progress=progress_line)
    if as_json:
        print_json(asdict(published))
    else:
        print_next(*_next(published, repository, url))


class _Opened(NamedTuple):
    """The name of the model, its spec, the extras that its source needs, and the function that publishes it.

    The spec is None for a registered version, which is downloaded first; its function takes the folder of images.
    """

    model: str
    spec: ModelSpec | None
    extra: str
    add: Callable[..., PublishedVersion]


def _open(
    source: str,
    model: str | None,
    labels: Path | None,
    preprocessing: Path | None,
    weights: Path | None,
    images: Path | None,
    of_run: dict[str, Any],
    computed: dict[str, Any],
    apply_serving: bool,
) -> _Opened:
    is_graph, is_timm = source.endswith(".onnx"), source.startswith(TIMM)
    is_registered = is_registry_uri(source)
    is_run = not is_graph and not is_timm and not is_registered
    _refuse("--labels", labels, is_graph or is_timm, "a run and a registered version have their own labels")
    _refuse("--preprocessing", preprocessing, is_graph, "only an ONNX file needs it")
    _refuse("--weights", weights, is_timm, "only a model of timm needs it, as in timm:resnet50")
    has_settings = is_run or is_registered
    _refuse("--apply-serving", apply_serving or None, has_settings, "only a run has serving settings")
    quantized = None if of_run["precision"] == "fp32" else of_run["precision"]
    _refuse("--precision", quantized, is_run, "only a run is exported in another precision")
    loss = None if of_run["max_loss_points"] == MAX_LOSS_POINTS else of_run["max_loss_points"]
    _refuse("--max-loss", loss, is_run, "only a run is exported in another precision")
    _refuse("--target", computed.get("target"), is_run or is_graph, "it is for a run and for an ONNX file")
    if is_graph:
        opened = _open_graph(Path(source), model, labels, preprocessing, images)
        return opened._replace(add=partial(opened.add, **computed))
    if is_timm:
        return _open_timm(source.removeprefix(TIMM), model, labels, weights)
    if is_registered:
        from ..registered_publication import publish_registered
        from ..registered_version import read_name

        add = partial(publish_registered, source, images=images)
        return _Opened(read_name(source) if model is None else model, None, "train,cpu", add)
    run = Run.find(source)
    from ..run_publication import publish_run

    add = partial(publish_run, run, **of_run, **computed)
    return _Opened(run.recipe.name if model is None else model, run.spec, "train,cpu", add)


def _refuse(option: str, value: object, has_meaning: bool, reason: str) -> None:
    if value is not None and not has_meaning:
        raise UsageError(f"{option}: {reason}; leave it out")


def _open_graph(
    path: Path, model: str | None, labels: Path | None, preprocessing: Path | None, images: Path | None
) -> _Opened:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if model is None:
        raise UsageError("--model: give the name of the model to publish this graph to")
    from ..adaptation import examine, read_description
    from ..graph_publication import publish_graph

    given = labels is not None or preprocessing is not None
    description = read_description(path, labels, preprocessing) if given else None
    found = [] if images is None or not images.is_dir() else walk(images)
    some = [Path(each.path) for each in islice((each for each in found if not each.left_out and not each.error), 8)]
    adaptation = examine(path, description, some)
    return _Opened(model, adaptation.spec, "release,cpu", partial(publish_graph, path, adaptation=adaptation))


def _open_timm(name: str, model: str | None, labels: Path | None, weights: Path | None) -> _Opened:
    with extra_required("train,cpu"):
        from ..sources.timm_model import TimmSource
        from ..timm_publication import publish_timm
    from ..adaptation.description import read_labels

    source = TimmSource(name, weights, None if labels is None else read_labels(labels))
    return _Opened(
        name.partition(".")[0] if model is None else model, source.spec, "train,cpu", partial(publish_timm, source)
    )


def _next(published: PublishedVersion, repository: Path, url: str | None) -> list[object]:
    """Arguments of the command that is useful next."""
    server = [] if url is None else ["--url", url]
    folder = name_repository(repository)
    if published.live != published.version:
        return ["promote", published.model, published.version, *folder, *server]
    if url is None:
        return ["serve", *folder]
    return ["classify", "IMAGES", "--model", published.model, *server]
