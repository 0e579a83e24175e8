"""``tamiz evaluate``: evaluate a run on its images, or any model on a folder of labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tamiz import Client
from tamiz.console import note_line, print_json, print_next, print_table, progress_line
from tamiz.errors import TrackingError, UsageError
from tamiz.extras import extra_required
from tamiz.image_files import summarise
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    RepositoryOption,
    UrlOption,
)
from tamiz.transports import DEFAULT_URL
from tamiz_train.run import Run

from .arguments import LabelledFolderOption, read_connection

if TYPE_CHECKING:
    from tamiz_train.evaluation import Evaluation
    from tamiz_train.labelled_images import LabelledImages

    from ..sources import ModelSource


def evaluate(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run; or folder of a recipe's runs, for the newest finished one. Default with --model: "
            "runs/MODEL. With --images also an ONNX file, a version of the repository (digits/3), or a model of a "
            "running server (grpc://localhost:8001/digits).",
        ),
    ] = None,
    images: LabelledFolderOption = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"] | None,
        typer.Option(
            help="The split to evaluate; all prints one table of the three. Default: test, unless --images is given."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Evaluate this served model, and compare its predictions with the run's.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the reports. Default: RUN/evaluation, or evaluation if the model is no run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run on its images, or any model on labelled images: print metrics, write a report with plots.

    The run is evaluated in float32. With --model, the served model is evaluated with the same code, and the number of
    its predictions that differ from the run's is printed. With --images, any model is evaluated on the images of a
    folder, which has one folder of images per label.
    """
    if source is None and model is None:
        raise UsageError("name a run, or a served model with --model")
    names = (source or "", "" if model is None else url)
    headers, tls = read_connection(names, header, ca, certificate, certificate_key)
    found: Run | None
    if images is None:
        if source is not None and (source.endswith(".onnx") or "://" in source):
            raise UsageError(f"{source} is no run; to evaluate it, give labelled images by --images FOLDER")
        found = Run.find(source or Path("runs") / str(model))
        with nullcontext() if model is None else Client(url, model=model, tls=tls, headers=headers) as client:
            results = _evaluate_run(found, split or "test", client, out)
        title = f"{found.path}" if model is None else f"{model} at {url}, compared with {found.path}"
    else:
        if split is not None:
            raise UsageError("--split: choose either a split of the run, or other images by --images")
        if source is not None and model is not None:
            raise UsageError("--model: with --images, name one model: leave out either --model or the argument")
        from tamiz_train.labelled_images import read_labelled_folder

        from ..sources import open_source

        folder, name = read_labelled_folder(images), source or f"{url}/{model}"
        with open_source(name, repository, tls=tls, headers=headers) as opened:
            results = [_evaluate_images(name, opened, folder, out)]
            found, title = opened.run, opened.title
    if as_json:
        documents = [result.to_dict() for result in results]
        print_json({"splits": documents} if split == "all" else documents[0])
        return
    for result in results:
        for message in result.evaluation.unreadable:
            note_line(f"unreadable: {message}")
    progress_line(title)
    _print_results(results)
    if found is not None and model is None:
        print_next("publish", found.path)


def _evaluate_run(run: Run, split: str, client: Client | None, out: Path | None) -> list[_Result]:
    from tamiz_train.data.split import SPLITS
    from tamiz_train.evaluation import evaluate_served
    from tamiz_train.run_data import load_run_data

    with extra_required("train,cpu"):
        from tamiz_train.inference import evaluate as evaluate_network
        from tamiz_train.weights import load_classifier

    names = SPLITS if split == "all" else (split,)
    data = load_run_data(run, names)
    classifier = load_classifier(run)
    results = []
    trained: Run | None
    for each in map(data.split, names):
        measured = evaluate_network(classifier, each, run.spec)
        title, folder, differing, trained = f"{run.recipe.name}, {run.path.name}", each.name, None, run
        if client is not None:
            own = measured
            measured = evaluate_served(client, each, run.spec)
            title = f"{client.model} version {client.live_version} at {client.url}"
            folder, differing, trained = f"{each.name}-served", measured.differences(own), None
        page = _write_report(measured, (out or run.path / "evaluation") / folder, title, trained)
        _track(run, measured, page.parent)
        results.append(_Result(folder, measured, page, differing))
    return results


def _evaluate_images(name: str, source: ModelSource, images: LabelledImages, out: Path | None) -> _Result:
    images.require_labels(source.spec.labels, f"{name} does not have")
    measured = source.evaluate(images.to_split(source.spec))
    if source.fitted_images is not None and (seen := sum(images.among(source.fitted_images))):
        note_line(
            f"{seen:,} of {len(images):,} images are among those that the run was trained on; the figures are too "
            "good for new images"
        )
    if images.left_out:
        note_line(summarise(images.left_out))
    parent = out or (Path("evaluation") if source.run is None else source.run.path / "evaluation")
    page = _write_report(measured, parent / f"images-{images.name}", source.title, source.run)
    return _Result(images.name, measured, page, None)


@dataclass(frozen=True)
class _Result:
    name: str
    evaluation: Evaluation
    page: Path
    differing: int | None

    def to_dict(self) -> dict[str, Any]:
        compared = {} if self.differing is None else {"differing": self.differing}
        return self.evaluation.to_dict() | compared | {"report": str(self.page)}


def _write_report(measured: Evaluation, folder: Path, title: str, run: Run | None) -> Path:
    from tamiz_train.report import write_report

    return write_report(measured, folder, title, run)


def _track(run: Run, measured: Evaluation, folder: Path) -> None:
    from tamiz_train.tracking import log_evaluation

    try:
        log_evaluation(run, {f"{folder.name}/{name}": value for name, value in measured.metrics.items()}, folder)
    except TrackingError as exc:
        # The metrics are printed and in the report, so this is no failure of the command.
        note_line(f"not logged: {exc}")


def _print_results(results: Sequence[_Result]) -> None:
    columns: dict[str, Mapping[str, float]] = {result.name: result.evaluation.metrics for result in results}
    first = next(iter(columns.values()))
    print_table(
        ("metric", *columns),
        ((name, *(f"{metrics[name]:.4f}" for metrics in columns.values())) for name in first),
    )
    if len(results) == 1:
        print_table(
            ("label", "precision", "recall", "F1", "images"),
            (
                (row.label, f"{row.precision:.4f}", f"{row.recall:.4f}", f"{row.f1:.4f}", row.support)
                for row in results[0].evaluation.classes
            ),
        )
    for result in results:
        measured = result.evaluation
        progress_line(f"{result.name}: {measured.images:,} images; {measured.summary}")
        if result.differing is not None:
            progress_line(
                f"{result.name}: {result.differing} of {len(measured.split):,} predictions differ from the run's"
            )
        progress_line(f"{result.name}: {result.page}")
