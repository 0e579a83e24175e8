"""``tamiz predict``: classify images with the weights of a run, without a server."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamiz.bulk.inputs import find_images
from tamiz.bulk.results import check_output, print_records, to_record, write_records
from tamiz.console import ExitCode, print_json, progress_line
from tamiz.errors import InvalidImageError
from tamiz.files import write_whole
from tamiz.image_files import summarise
from tamiz.options import ImagesArgument, JsonOption

from ..run import Run
from .arguments import RunOption

if TYPE_CHECKING:
    from ..inference import Features


def predict(
    images: ImagesArgument,
    run: RunOption,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels for each image.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the results to this .csv, .jsonl or .parquet file.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Write the pooled features to this .npy file, float32 [images, width]; the row of an unreadable image "
            "is NaN."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Classify images with the weights of a run, without a server."""
    found = Run.find(run)
    left_out = Counter[str]()
    paths = find_images(images, left_out)
    if out:
        check_output(out)
    from ..inference import predict as predict_images

    pooled: list[Features | None] | None = None if features is None else []
    outcomes = predict_images(found, paths, top_k=top_k, features=pooled)
    if features is not None and pooled is not None:
        _write_features(features, pooled)
    multilabel = found.spec.task == "multilabel"
    records = [to_record(path, outcome, multilabel=multilabel) for path, outcome in zip(paths, outcomes, strict=True)]
    errors = sum(isinstance(outcome, InvalidImageError) for outcome in outcomes)
    if out:
        write_records(out, records, top_k=top_k, multilabel=multilabel)
    if as_json:
        document: dict[str, Any] = {
            "run": str(found.path),
            "images": len(paths),
            "errors": errors,
            "left_out": left_out,
        }
        print_json(document if out else document | {"results": records})
    elif out:
        progress_line(f"{len(paths):,} images, {errors} errors, in {out}")
    else:
        print_records(records)
    if left_out and not as_json:
        print(summarise(left_out))
    return ExitCode.UNREADABLE_IMAGES if errors else ExitCode.SUCCESS


def _write_features(path: Path, rows: Sequence[Features | None]) -> None:
    import numpy as np

    width = next((len(row) for row in rows if row is not None), 0)
    array = np.stack([np.full(width, np.nan, np.float32) if row is None else row for row in rows])
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(path, buffer.getvalue())
