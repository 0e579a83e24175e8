"""Publication of runs: exported in a precision, and compared with the trained network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from tamiz.arguments import check_function
from tamiz_server.repository import Repository
from tamiz_train.run import Run

from .candidate import Candidate
from .gate import GateImages, GateReport, run_images
from .precision.defaults import BUDGET_S, MAX_LOSS_POINTS
from .publication import PublishedVersion, publish_candidate
from .publication_options import DEFAULT_OPTIONS, PublicationOptions, check_publication
from .publication_warnings import report_warnings, run_warnings
from .sources import open_source

if TYPE_CHECKING:
    from .precision.choice import Target
    from .precision.export import WantedPrecision


def publish_run(
    run: Run,
    repository: Repository,
    *,
    model: str | None = None,
    precision: WantedPrecision = "fp32",
    target: Target = "cpu",
    engine_cache: str | None = None,
    budget_s: float = BUDGET_S,
    max_loss_points: float = MAX_LOSS_POINTS,
    runtimes: Collection[str] = ("onnxruntime", "openvino"),
    images: GateImages | None = None,
    options: PublicationOptions = DEFAULT_OPTIONS,
    on_exported: Callable[[Candidate], None] = lambda candidate: None,
    on_passed: Callable[[GateReport], None] = lambda report: None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> PublishedVersion:
    """Export a run, and add it to a model repository as the model's next version, if it passes the gate.

    The first version goes live at once; a later one goes live when it is promoted.

    Args:
        run: a finished run.
        repository: the model repository; its folder is created when it does not exist.
        model: name of the model. Default: the name of the recipe.
        precision: precision of the graph; see `tamiz_release.export_precision`, which searches it unless an earlier
            export did.
        target: what will compute the graph: ``cpu``, or for INT8 and FP16 ``tensorrt`` on a GPU.
        engine_cache: an absolute folder on the server, in which it keeps the engines of TensorRT.
        budget_s: time budget of the search in seconds.
        max_loss_points: the largest accuracy (mAP, if multilabel) that an INT8 graph may lose on validation images, in
            points.
        runtimes: names of the runtimes that ``auto`` may choose.
        images: the images on which the gate measures. Default: held-out images of the run; see
            `tamiz_release.gate.run_images`.
        options: how the version is gated, published and brought into service.
        on_exported: called with the exported candidate, before the gate.
        on_passed: called with the verdict of a candidate that passed the gate, or is forced, before it is published.
        on_progress: called with a line of text after each step, and for each warning.

    Raises:
        ExportError: the network cannot be exported, or the graph computes something else; or no graph of the precision
            keeps the accuracy.
        GateError: the graph failed the gate, and the options do not force it.
        RunError: the weights cannot be loaded; or the run keeps no validation images, and its data cannot be found.
        OutputError: the folder of the run cannot be written.
        RepositoryError: the repository cannot be changed; or the server rejected the version, which then is not
            promoted.
        ServerError: the server does not answer, or rejects the key.
    """
    # Imported here, because the quantizer takes a second, which publishing a graph does not need.
    from .precision.export import check_export, export_precision

    check_export(run, precision, target, engine_cache, budget_s, max_loss_points, runtimes)
    check_function("on_exported", on_exported, "a function that takes a candidate")
    check_function("on_passed", on_passed, "a function that takes a report")
    check_publication(
        repository, "default" if model is None else model, images=images, options=options, on_progress=on_progress
    )
    name = run.recipe.name if model is None else model
    on_progress(_describe(run))
    report_warnings(run_warnings(run), on_progress)
    candidate = export_precision(
        run,
        precision,
        target=target,
        engine_cache=engine_cache,
        budget_s=budget_s,
        max_loss_points=max_loss_points,
        runtimes=runtimes,
        on_progress=on_progress,
    )
    on_exported(candidate)
    with open_source(str(run.path), repository.path) as reference:
        return publish_candidate(
            candidate,
            repository,
            name,
            reference=reference,
            images=run_images(run) if images is None else images,
            options=options,
            on_passed=on_passed,
            on_progress=on_progress,
        )


def _describe(run: Run) -> str:
    measured = "".join(f", test {name} {value:.4f}" for name, value in [*run.metrics["test"].items()][:1])
    return f"run {run.path}{measured}, trained {run.finished_at:%Y-%m-%d %H:%M}"
