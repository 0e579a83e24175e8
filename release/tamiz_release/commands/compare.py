"""``tamiz compare``: which of two models is better on the same images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamiz.console import note_line, print_json, print_table, progress_line
from tamiz.errors import RecipeError, RunError, UsageError
from tamiz.files import check_writable
from tamiz.image_files import summarise
from tamiz.options import (
    DEFAULT_REPOSITORY,
    CaOption,
    CertificateKeyOption,
    CertificateOption,
    HeaderOption,
    JsonOption,
    RepositoryOption,
)

from .arguments import LabelledFolderOption, read_connection

if TYPE_CHECKING:
    from tamiz_train.labelled_images import LabelledImages
    from tamiz_train.run import Run

    from ..comparison import Comparison
    from ..sources import ModelSource

MAX_SHOWN = 20
"""Largest number of images with different predictions that are printed."""

_MODEL_HELP = (
    "A run (runs/digits), an ONNX file, a version of the repository (digits/3), or a model of a running server "
    "(grpc://localhost:8001/digits)."
)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=_MODEL_HELP)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    images: LabelledFolderOption = None,
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    header: HeaderOption = None,
    ca: CaOption = None,
    certificate: CertificateOption = None,
    certificate_key: CertificateKeyOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all images with different predictions to this .csv file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which of two models is better on the same images, how certain that is, and on which images they differ.

    Without --images, the test images of the runs are used. Images that one of the runs was trained on are left out.
    """
    if out is not None:
        if out.suffix != ".csv":
            raise UsageError(f"--out {out}: unsupported format; write a .csv file")
        check_writable(out)
    headers, tls = read_connection((first, second), header, ca, certificate, certificate_key)
    from tamiz_train.labelled_images import read_labelled_folder

    from ..comparison import compare as compare_models
    from ..comparison import write_differences
    from ..sources import open_source

    open_model = partial(open_source, repository=repository, tls=tls, headers=headers)
    with open_model(first) as one, open_model(second) as other:
        found = _test_images((one, other)) if images is None else read_labelled_folder(images)
        chosen = _without_fitted(found, (one, other))
        compared = compare_models(one, other, chosen)
        titles = one.title, other.title
    if out is not None:
        write_differences(compared, out)
    if as_json:
        left_out = {"fitted": len(found) - len(chosen), "unreadable": len(chosen) - compared.count}
        print_json({"models": titles, "left_out": left_out, **compared.to_dict()})
        return
    if found.left_out:
        note_line(summarise(found.left_out))
    for message in sorted({*compared.first.unreadable, *compared.second.unreadable}):
        note_line(message)
    _print_comparison(compared, titles)
    if out is not None:
        progress_line(f"all images with different predictions: {out}")


def _test_images(models: tuple[ModelSource, ModelSource]) -> LabelledImages:
    """The test images of those of the models that are runs."""
    from tamiz_train.labelled_images import merge

    runs = [model.run for model in models if model.run is not None]
    if not runs:
        raise UsageError("--images: give a folder with one folder of images per label; neither model is a run")
    parts, reasons = [], []
    for run in runs:
        try:
            parts.append(_test_images_of(run))
        except (RecipeError, RunError) as exc:
            reasons.append(exc)
            note_line(f"the test images of {run.path} are not used: {exc}")
    if not parts:
        raise reasons[0]
    return merge(parts)


def _test_images_of(run: Run) -> LabelledImages:
    from tamiz_train.data import load_data
    from tamiz_train.labelled_images import from_split
    from tamiz_train.run_data import load_run_data

    # The images that a run was fitted to are left out by their content, so a split may be drawn anew.
    known = run.fitted_images is not None
    data = load_data(run.recipe.data, run.recipe.train.seed) if known else load_run_data(run, ["test"])
    return from_split(data.test, data.labels)


def _without_fitted(images: LabelledImages, models: tuple[ModelSource, ModelSource]) -> LabelledImages:
    """The images that no model was fitted to."""
    fitted: set[int] = set()
    for model in models:
        if model.fitted_images is None:
            note_line(f"{model.title}: the images that it was trained on are unknown; it may have seen some of these")
            continue
        own = {index for index, seen in enumerate(images.among(model.fitted_images)) if seen}
        if own:
            note_line(f"left out: {len(own):,} of {len(images):,} images that {model.title} was trained on")
        fitted |= own
    if len(fitted) == len(images):
        raise UsageError("nothing to compare: each image was used to train one of the models; give others by --images")
    return images.take(index for index in range(len(images)) if index not in fitted)


def _print_comparison(compared: Comparison, titles: tuple[str, str]) -> None:
    for letter, title, value in zip("AB", titles, compared.values, strict=True):
        progress_line(f"{letter}: {title}: {compared.metric} {value:.4f} on {compared.count:,} images")
    for letter, evaluation in (("A", compared.first), ("B", compared.second)):
        counts = compared.images.label_counts()
        for label in sorted(counts.keys() - set(evaluation.spec.labels)):
            note_line(f"{letter} has no label {label}: its {counts[label]:,} images count as wrong for {letter}")
    print_table(
        ("label", "images", "recognised by A", "by B"),
        ((row.label, row.images, row.first, row.second) for row in compared.labels),
    )
    both, only_first, only_second, neither = compared.table
    print(f"right: both {both:,}, only A {only_first:,}, only B {only_second:,}, neither {neither:,}")
    if differences := compared.differences:
        print_table(
            ("image", "true", "A", "B", "right"),
            (
                (row.image, row.true, row.first, row.second, {"first": "A", "second": "B"}.get(row.right, ""))
                for row in differences[:MAX_SHOWN]
            ),
        )
        if len(differences) > MAX_SHOWN:
            print(f"and {len(differences) - MAX_SHOWN:,} more images with different predictions; --out writes all")
    low, high = compared.interval
    verdict = {"first": "A is better", "second": "B is better", None: "these images do not decide which is better"}
    print(
        f"{verdict[compared.better]}: B - A = {compared.difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}; "
        f"McNemar's test: p = {compared.p_value:.2g})"
    )
