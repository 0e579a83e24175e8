"""``tamiz train``: train a model by a recipe, or resume a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tamiz.console import print_json, print_next, progress_line
from tamiz.errors import UsageError
from tamiz.options import JsonOption
from tamiz_server.config import new_config
from tamiz_server.triton_faults import setting_warnings

from ..recipe import load_recipe
from ..run import Run
from .arguments import SetOption

MAX_READ = 5000
"""The number of images that `--check` reads; of larger data sets, evenly spaced ones."""


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or path of a .yaml file.")
    ] = None,
    overrides: SetOption = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume an interrupted run from its last completed epoch.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check the recipe, its data and its network, and export the untrained network; train nothing.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model by a recipe, keep the weights of its best epoch, and evaluate them on validation and test."""
    if (recipe is None) == (resume is None):
        raise UsageError("give either a recipe to train, or --resume RUN to resume a run")
    if resume is not None:
        if check:
            raise UsageError("--resume continues a run whose recipe was checked when it started; leave out --check")
        unfinished = Run.find_unfinished(resume)
        from .. import training

        run = training.resume(unfinished, progress_line, overrides=overrides or [])
    else:
        assert recipe is not None
        resolved = load_recipe(recipe, overrides or [], os.environ)
        if os.environ.get("RANK", "0") == "0":
            for warning in setting_warnings(new_config(resolved.name, resolved.serving)):
                progress_line(f"warning: recipe {resolved.name}: serving.{warning}")
        from .. import setup, training

        if check:
            from ..onnx_export import check_export
            from ..parity import CHECK_IMAGES, choose_images

            checked = setup.check(resolved)
            print(checked, flush=True)
            if unreadable := setup.find_unreadable_images(checked, checked.data.splits, MAX_READ):
                progress_line(unreadable)
            images = choose_images(checked.data.validation, checked.spec.preprocessing, CHECK_IMAGES)
            parity = check_export(checked.classifier, checked.spec, images)
            print(f"the network can be exported, although it is not trained yet: {parity}")
            print("the recipe is valid; nothing was trained")
            print_next("train", recipe, *(part for override in overrides or [] for part in ("--set", override)))
            return
        run = training.train(resolved, progress_line)
    # Of several processes that train together, only the first one prints.
    if os.environ.get("RANK", "0") != "0":
        return
    progress_line(f"run {run.path}")
    if as_json:
        print_json({"run": str(run.path), **run.metrics})
    else:
        print_next("evaluate", run.path)
