"""``tamiz data``: look at the images of a recipe before training on them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import ExitCode, print_json, progress_line
from tamiz.files import write_whole
from tamiz.image_files import summarise
from tamiz.options import JsonOption

from ..recipe import load_recipe
from .arguments import RecipeArgument, SetOption


def check(recipe: RecipeArgument, overrides: SetOption = None, as_json: JsonOption = False) -> int:
    """Read every image of a recipe, and list the problems of its data; the exit code is 1 if there are any.

    Warnings and notes do not count: images of almost one value, and images that are there twice with one label.
    """
    resolved = load_recipe(recipe, overrides or [], os.environ)
    from ..data import load_data
    from ..data.check import check_data

    data = load_data(resolved.data, resolved.train.seed)
    findings = list(check_data(data, resolved.preprocessing))
    images = {split.name: len(split) for split in data.splits}
    if as_json:
        problems = [
            {"what": found.what, "count": len(found.names), "names": found.names, "severity": found.severity}
            for found in findings
        ]
        document = {"task": data.task, "labels": data.labels, "images": images, "left_out": data.left_out}
        print_json({**document, "findings": problems})
    else:
        counts = ", ".join(f"{count:,} {name}" for name, count in images.items())
        progress_line(f"{resolved.name}: {data.task}, {len(data.labels)} labels, images: {counts}")
        if note := summarise(data.left_out):
            progress_line(note)
        for found in findings:
            progress_line(str(found))
        if all(found.severity == "note" for found in findings):
            progress_line("no problems found in the data")
    return ExitCode.SUCCESS if all(found.severity != "problem" for found in findings) else ExitCode.FAILED


def show(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    out: Annotated[Path, typer.Option(help="The contact sheet, a .png file.")] = Path("samples.png"),
) -> None:
    """Write a contact sheet of a recipe's training images, each one original and augmented."""
    resolved = load_recipe(recipe, overrides or [], os.environ)
    from ..data import load_data
    from ..samples import plot_samples

    data = load_data(resolved.data, resolved.train.seed)
    write_whole(out, plot_samples(data.train, data.labels, resolved))
    progress_line(f"{out}: {min(16, len(data.train))} of {len(data.train):,} training images, original and augmented")


def split(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="The manifest, a .csv file. Default: splits.csv in the folder data.root.")
    ] = None,
) -> None:
    """Write the splits of a recipe's images as a CSV manifest, so that they stay as they are."""
    resolved = load_recipe(recipe, overrides or [], os.environ)
    from ..data import load_data
    from ..data.manifest import to_manifest

    # All images, because a subset is drawn again from those of the manifest.
    settings = resolved.data.model_copy(update={"subset_size": None})
    data = load_data(settings, resolved.train.seed)
    path = out or settings.root / "splits.csv"
    write_whole(path, to_manifest(data, path.parent))
    counts = ", ".join(f"{len(part):,} {part.name}" for part in data.splits)
    values = ("data.kind=csv", f"data.root={path.parent}", f"data.manifest={path.name}")
    sets = [f"--set {shlex.quote(value)}" for value in values]
    progress_line(f"{path}: {counts}; to train with it: {' '.join(sets)}")
