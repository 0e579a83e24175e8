"""The report of an evaluation: one HTML page that holds its pictures, and the same figures as JSON."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path

import jinja2

from tamiz.errors import RunError, UsageError
from tamiz.files import write_whole

from .evaluation import Evaluation
from .plots import plot_confusions, plot_mistakes, plot_reliability

BROKEN_SHOWN = 100


def write_report(evaluation: Evaluation, folder: Path, title: str) -> Path:
    """Write ``report.html``, ``metrics.json``, ``confusions.png``, ``reliability.png`` and ``mistakes.png``.

    Args:
        evaluation: what was measured, of one image or more.
        folder: made where it is not there.
        title: of the page.

    Returns:
        the page's path.

    Raises:
        RunError: no image could be read.
        UsageError: the folder cannot be written.
    """
    if not evaluation.images:
        raise RunError(f"{title}: no image of the split {evaluation.split.name} could be read; nothing was measured")
    pictures = {"confusions": plot_confusions(evaluation), "reliability": plot_reliability(evaluation)}
    if evaluation.mistakes:
        pictures["mistakes"] = plot_mistakes(evaluation)
    page = _template().render(
        title=title,
        images=f"{evaluation.images:,}",
        split=evaluation.split.name,
        words=evaluation.in_words(),
        metrics=evaluation.metrics,
        classes=evaluation.classes,
        pictures={name: base64.b64encode(picture).decode() for name, picture in pictures.items()},
        broken=evaluation.broken[:BROKEN_SHOWN],
    )
    files = {f"{name}.png": picture for name, picture in pictures.items()}
    files["metrics.json"] = json.dumps(evaluation.to_dict(), indent=2).encode()
    # Last, so that a page that is there is complete.
    files["report.html"] = page.encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"{folder}: cannot be written: {exc.strerror}") from exc
    for name, content in files.items():
        write_whole(folder / name, content)
    return folder / "report.html"


def _template() -> jinja2.Template:
    source = (resources.files("tamiz_train") / "templates" / "report.html").read_text(encoding="utf-8")
    # Labels and messages come from folders and files of anybody.
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)
