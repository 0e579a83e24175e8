"""``tamiz evaluate``: evaluate a run, or a served model, on the images of the run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tamiz import Client
from tamiz.console import print_json, print_table
from tamiz.errors import TrackingError, UsageError
from tamiz.options import JsonOption, UrlOption
from tamiz.transports import DEFAULT_URL

from ..run import Run

if TYPE_CHECKING:
    from ..evaluation import Evaluation


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            help="Folder of a run; or folder of a recipe's runs, for the newest finished one. Default with --model: "
            "runs/MODEL.",
        ),
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"],
        typer.Option(help="The split to evaluate; all prints one table of the three."),
    ] = "test",
    model: Annotated[
        str | None, typer.Option(help="Evaluate this served model, and compare its predictions with the run's.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    out: Annotated[Path | None, typer.Option(help="Folder of the reports. Default: RUN/evaluation.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a run, or a served model, on the run's images: print the metrics, and write a report with plots.

    The run is evaluated in float32. With --model, the served model is evaluated with the same code, and the number of
    its predictions that differ from the run's is printed.
    """
    if run is None and model is None:
        raise UsageError("name a run, or a served model with --model")
    found = Run.find(run or Path("runs") / str(model))
    from .. import evaluation
    from ..data.split import SPLITS
    from ..weights import load_classifier

    names = SPLITS if split == "all" else (split,)
    data = evaluation.load_run_data(found, names)
    classifier = load_classifier(found)
    results = []
    for each in map(data.split, names):
        measured = evaluation.evaluate(classifier, each, found.spec, num_workers=found.recipe.train.num_workers)
        title, folder, differing = f"{found.recipe.name}, {found.path.name}", each.name, None
        if model is not None:
            own = measured
            with Client(url, model=model) as client:
                measured = evaluation.evaluate_served(client, each, found.spec)
                title = f"{model} version {client.live_version} at {url}"
            folder, differing = f"{each.name}-served", measured.differences(own)
        page = _write_report(found, measured, (out or found.path / "evaluation") / folder, title)
        results.append(_Result(folder, measured, page, differing))
    if as_json:
        documents = [result.to_dict() for result in results]
        print_json({"splits": documents} if split == "all" else documents[0])
        return
    for result in results:
        for message in result.evaluation.unreadable:
            print(f"unreadable: {message}", file=sys.stderr)
    print(f"{found.path}" if model is None else f"{model} at {url}, compared with {found.path}")
    _print_results(results)


@dataclass(frozen=True)
class _Result:
    name: str
    evaluation: Evaluation
    page: Path
    differing: int | None

    def to_dict(self) -> dict[str, Any]:
        compared = {} if self.differing is None else {"differing": self.differing}
        return self.evaluation.to_dict() | compared | {"report": str(self.page)}


def _write_report(run: Run, measured: Evaluation, folder: Path, title: str) -> Path:
    from ..report import write_report
    from ..tracking import log_evaluation

    page = write_report(measured, folder, title)
    try:
        log_evaluation(run, {f"{folder.name}/{name}": value for name, value in measured.metrics.items()}, folder)
    except TrackingError as exc:
        # The metrics are printed and in the report, so this is no failure of the command.
        print(f"not logged: {exc}", file=sys.stderr)
    return page


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
        print(f"{result.name}: {measured.images:,} images; {measured.summary}")
        if result.differing is not None:
            print(f"{result.name}: {result.differing} of {len(measured.split):,} predictions differ from the run's")
        print(f"{result.name}: {result.page}")
