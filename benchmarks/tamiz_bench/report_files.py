"""The files of a report: ``report.json`` of every benchmark, and ``report.png`` of the benchmark of a served model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamiz.arguments import check_instance, check_path
from tamiz.errors import OutputError, os_reason
from tamiz.files import check_writable, write_whole
from tamiz.json_text import to_json

from .report import Report


def prepare_folder(folder: Path) -> None:
    """Create the folder of a report, and check that a report can be written to it, before anything is measured.

    Raises:
        OutputError: the folder or a file in it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise OutputError(f"{folder}: cannot be created: {os_reason(exc)}; name another folder with --out") from exc
    check_writable(folder / "report.json")


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.json`` and ``report.png`` to a folder, which is created if missing.

    Raises:
        UsageError: an argument is wrong.
        OutputError: the folder or a file in it cannot be written.
    """
    check_instance("report", report, Report)
    check_path("folder", folder, "the path of a folder")
    folder = Path(folder)
    # Imported here because Matplotlib takes most of a second to import.
    from .plot import plot_report

    prepare_folder(folder)
    write_json(report.to_dict(), folder)
    write_whole(folder / "report.png", plot_report(report))


def write_json(document: dict[str, Any], folder: Path) -> None:
    """Write ``report.json`` to a folder.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(folder / "report.json", to_json(document, indent=2))
