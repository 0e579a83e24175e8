"""The files of a gate report: gate.json, and a page of HTML that a person can read."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2

from tamiz.console import printable_line
from tamiz.errors import OutputError, os_reason
from tamiz.files import write_whole
from tamiz.json_text import to_json
from tamiz_train.image_hashes import HASHES_FILE
from tamiz_train.metrics import MEANINGS
from tamiz_train.run import Run

from .report import GateReport

GATE_FILE = "gate.json"
GATE_PAGE = "gate.html"


def write_gate_report(report: GateReport, folder: Path) -> Path:
    """Write a report to a folder: gate.json and gate.html.

    Args:
        report: the report.
        folder: the folder; it is created when it does not exist.

    Returns:
        the path of the page.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be written: {os_reason(exc)}") from exc
    write_whole(folder / GATE_FILE, to_json(report.to_dict(), indent=2))
    write_whole(folder / GATE_PAGE, render_gate_page(report))
    return folder / GATE_PAGE


def render_gate_page(report: GateReport) -> str:
    """The page of a report: one file of HTML that needs no other."""
    template = (resources.files("tamiz_release") / "templates" / "gate.html").read_text(encoding="utf-8")
    # Escaped, because labels, paths and reasons come from names of files and from people.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_legible)
    return environment.from_string(template).render(
        report=report,
        agreement=report.agreement,
        live=report.live,
        compared=None if report.live is None else report.live.comparison,
        meanings=MEANINGS,
    )


def version_files(report: GateReport, run: Run | None) -> dict[str, bytes]:
    """The files that are stored with a version: the report, and content hashes of the images of its run.

    Later versions are compared with it on other images than those that it was fitted to.

    Args:
        report: the report.
        run: the run that the version was made from; None if there is none.
    """
    files = {GATE_FILE: to_json(report.to_dict(), indent=2).encode(), GATE_PAGE: render_gate_page(report).encode()}
    if run is not None and (hashes := run.path / HASHES_FILE).is_file():
        files[HASHES_FILE] = hashes.read_bytes()
    return files


def _legible(value: object) -> object:
    return printable_line(value) if isinstance(value, str) else value
