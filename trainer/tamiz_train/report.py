"""The report of an evaluation: an HTML page with its plots, the metrics as JSON, and all predictions as CSV."""

from __future__ import annotations

import base64
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jinja2

from tamiz.console import printable_line
from tamiz.errors import OutputError, RunError, os_reason
from tamiz.files import write_whole
from tamiz.json_text import to_json

from .evaluation import Evaluation
from .metrics import MEANINGS
from .plots import plot_confusion_matrix, plot_history, plot_mistakes, plot_reliability
from .predictions import write_predictions
from .run import Run

MAX_UNREADABLE_SHOWN = 100
MAX_MISTAKES_SHOWN = 40


class Figure(NamedTuple):
    """A plot of the page.

    Attributes:
        title: title of the plot; its file has this name.
        explanation: how to read the plot.
        png: content of the PNG file.
    """

    title: str
    explanation: str
    png: bytes


def write_report(evaluation: Evaluation, folder: Path, title: str, run: Run | None = None) -> Path:
    """Write a report to a folder.

    The files are ``report.html``, ``metrics.json``, ``predictions.csv`` and one PNG file for each plot:
    ``confusion_matrix.png``, ``reliability.png``, ``mistakes.png`` when there are any, and ``training.png`` with a run.

    Args:
        evaluation: the evaluation, with at least one image that could be read.
        folder: the folder; it is created when it does not exist.
        title: the title of the page.
        run: the run whose weights were evaluated, of which the page shows the training; None for another model.

    Returns:
        the path of the HTML page.

    Raises:
        RunError: no image could be read.
        OutputError: the folder or a file cannot be written.
    """
    if not evaluation.images:
        raise RunError(
            f"{title}: nothing was evaluated: no image of the split {evaluation.split.name} could be read; "
            "check the paths and files of the data"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be written: {os_reason(exc)}") from exc
    figures = _draw(evaluation, run)
    for figure in figures:
        write_whole(folder / f"{figure.title.lower().replace(' ', '_')}.png", figure.png)
    write_predictions(evaluation, folder / "predictions.csv")
    evaluated = datetime.now().astimezone()
    origin = {"title": title, "evaluated": evaluated.isoformat(timespec="seconds")}
    if run is not None:
        origin |= {"run": str(run.path), "recipe": run.recipe.name}
    write_whole(folder / "metrics.json", to_json(origin | evaluation.to_dict(), indent=2))
    # Written last, so that the other files are there when the page is.
    page = folder / "report.html"
    write_whole(page, _render(evaluation, title, evaluated, figures, run))
    return page


def _draw(evaluation: Evaluation, run: Run | None) -> list[Figure]:
    if evaluation.spec.task == "multiclass":
        matrix = (
            "Each row holds the images of one true label, each column those of one predicted label. Right predictions "
            "are on the diagonal; the colour is the fraction of the row."
        )
    else:
        matrix = (
            "For each label: images that have it and for which it is predicted (true positives), images that have it "
            "and for which it is not predicted (false negatives), and images that do not have it and for which it is "
            "predicted (false positives)."
        )
    figures = [
        Figure("Confusion matrix", matrix, plot_confusion_matrix(evaluation)),
        Figure(
            "Reliability",
            "How often predictions of a confidence are right. On the dashed diagonal, confidence and accuracy agree; "
            "below it the model is too confident. The bars show how many predictions have a confidence.",
            plot_reliability(evaluation),
        ),
    ]
    if evaluation.mistakes:
        explanation = (
            "The wrong predictions with the highest confidence, with the predicted and the true label. Often some of "
            "them are wrong labels in the data. The paths are in the table below; predictions.csv has all predictions."
        )
        figures.append(Figure("Mistakes", explanation, plot_mistakes(evaluation, MAX_MISTAKES_SHOWN)))
    if run is not None and run.metrics.get("epochs"):
        explanation = (
            "The loss on training and validation images and the learning rate of each epoch. The weights are those of "
            "the best epoch. A validation loss that rises while the training loss falls is overfitting. (Augmentation, "
            "dropout and label smoothing raise the training loss alone.)"
        )
        history = plot_history(run.metrics["epochs"], run.metrics["best_epoch"])
        figures.append(Figure("Training", explanation, history))
    return figures


def _render(evaluation: Evaluation, title: str, evaluated: datetime, figures: list[Figure], run: Run | None) -> str:
    template = (resources.files("tamiz_train") / "templates" / "report.html").read_text(encoding="utf-8")
    # Escaped, because labels and messages come from names of folders and files.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_legible)
    return environment.from_string(template).render(
        title=title,
        evaluated=f"{evaluated:%Y-%m-%d %H:%M %Z}",
        trained=None if run is None else f"{run.finished_at:%Y-%m-%d %H:%M %Z}",
        run=None if run is None else run.path,
        recipe=None if run is None else run.recipe,
        images=f"{evaluation.images:,}",
        split=evaluation.split.name,
        summary=evaluation.summary,
        metrics=evaluation.metrics,
        meanings=MEANINGS,
        classes=evaluation.classes,
        figures=[(figure.title, figure.explanation, base64.b64encode(figure.png).decode()) for figure in figures],
        mistakes=evaluation.mistakes[:MAX_MISTAKES_SHOWN],
        mistake_count=len(evaluation.mistakes),
        unreadable=evaluation.unreadable[:MAX_UNREADABLE_SHOWN],
        unreadable_count=len(evaluation.unreadable),
    )


def _legible(value: object) -> object:
    return printable_line(value) if isinstance(value, str) else value
