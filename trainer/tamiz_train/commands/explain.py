"""``tamiz explain``: show where in images the network of a run sees a label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamiz.bulk.inputs import find_images
from tamiz.console import ExitCode, note_line, print_json, progress_line
from tamiz.errors import InvalidImageError
from tamiz.image_files import summarise
from tamiz.options import ImagesArgument, JsonOption

from ..run import Run
from .arguments import RunOption

if TYPE_CHECKING:
    from ..explanation import Explanation


def explain(
    images: ImagesArgument,
    run: RunOption,
    out: Annotated[Path, typer.Option(help="Folder of the overlays, which are PNG files.")] = Path("explanations"),
    label: Annotated[
        str | None, typer.Option(help="The label to explain. Default: the top prediction of each image.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show where in images the network of a run sees a label: a Grad-CAM heat map over each image."""
    found = Run.find(run)
    left_out = Counter[str]()
    paths = find_images(images, left_out)
    from ..explanation import explain as explain_images

    records = []
    for path, outcome in explain_images(found, paths, out, label=label):
        records.append(_to_record(path, outcome))
        if as_json:
            continue
        if isinstance(outcome, InvalidImageError):
            note_line(str(outcome))
        else:
            progress_line(f"{path}: {outcome.label} {outcome.score:.4f} -> {outcome.path}")
    errors = sum(record["error"] is not None for record in records)
    if as_json:
        counts = {"images": len(paths), "errors": errors, "left_out": left_out}
        print_json({"run": str(found.path), **counts, "results": records})
    elif left_out:
        print(summarise(left_out))
    return ExitCode.UNREADABLE_IMAGES if errors else ExitCode.SUCCESS


def _to_record(path: Path, outcome: Explanation | InvalidImageError) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(path), "label": None, "score": None, "overlay": None, "error": None}
    if isinstance(outcome, InvalidImageError):
        return record | {"error": str(outcome)}
    return record | {"label": outcome.label, "score": outcome.score, "overlay": str(outcome.path)}
