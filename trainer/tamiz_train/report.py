"""The report of an evaluation: an HTML page that contains its plots, and the same metrics as JSON."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path

import jinja2

from tamiz.errors import OutputError, RunError, os_reason
from tamiz.files import write_whole

from .evaluation import Evaluation
from .plots import plot_confusion_matrix, plot_mistakes, plot_reliability

MAX_UNREADABLE_SHOWN = 100


def write_report(evaluation: Evaluation, folder: Path, title: str) -> Path:
    """Write a report to a folder.

    The files are ``report.html``, ``metrics.json``, ``confusion_matrix.png``, ``reliability.png`` and, when there are
    any, ``mistakes.png``.

    Args:
        evaluation: the evaluation, with at least one image that could be read.
        folder: the folder; it is created when it does not exist.
        title: the title of the page.

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
    plots = {"confusion matrix": plot_confusion_matrix(evaluation), "reliability": plot_reliability(evaluation)}
    if evaluation.mistakes:
        plots["mistakes"] = plot_mistakes(evaluation)
    for name, png in plots.items():
        write_whole(folder / f"{name.replace(' ', '_')}.png", png)
    write_whole(folder / "metrics.json", json.dumps(evaluation.to_dict(), indent=2))
    # Written last, so that the other files are there when the page is.
    page = folder / "report.html"
    write_whole(page, _render(evaluation, title, plots))
    return page


def _render(evaluation: Evaluation, title: str, plots: dict[str, bytes]) -> str:
    template = (resources.files("tamiz_train") / "templates" / "report.html").read_text(encoding="utf-8")
    # Escaped, because labels and messages come from names of folders and files.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=title,
        images=f"{evaluation.images:,}",
        split=evaluation.split.name,
        summary=evaluation.summary,
        metrics=evaluation.metrics,
        classes=evaluation.classes,
        plots={name: base64.b64encode(png).decode() for name, png in plots.items()},
        unreadable=evaluation.unreadable[:MAX_UNREADABLE_SHOWN],
        unreadable_count=len(evaluation.unreadable),
    )
