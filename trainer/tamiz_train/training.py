"""Training: from a recipe to a finished run, also after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tamiz.arguments import check_instance, check_progress
from tamiz.errors import RunError

from .distributed import Processes, connect_processes
from .evaluation import tune_thresholds
from .inference import evaluate
from .onnx_export import export
from .parity import choose_images
from .phases import FitResult, fit
from .recipe import Recipe
from .recipe.overrides import check_overrides
from .resumption import change_recipe
from .run import Run
from .run_data import changed_splits, record_data
from .setup import Setup, check, find_unreadable_images
from .tracking import Tracker
from .training_errors import training_errors


def train(recipe: Recipe, on_progress: Callable[[str], None] = lambda line: None) -> Run:
    """Train a model, keep its best epoch, and measure it on the validation and the test images.

    Under `torchrun` its processes train together, and each of them returns the same run.

    Args:
        recipe: the recipe.
        on_progress: called with one line of text at each step of the run.

    Returns:
        the finished run.

    Raises:
        RecipeError: the recipe refers to something that is missing or does not fit; raised before training starts.
        OutputError: the folder of the run cannot be written.
        RunError: training failed.
        TrackingError: the tracking store cannot be used.
        KeyboardInterrupt: the process received SIGINT or SIGTERM; `resume` continues the run.
    """
    check_instance("recipe", recipe, Recipe)
    check_progress(on_progress)
    with connect_processes() as processes:
        setup = check(recipe)
        _require_readable_test(setup, processes)
        run = processes.from_first(_create_run(setup) if processes.first else None)
        return _complete(run, setup, processes, on_progress)


def resume(run: Run, on_progress: Callable[[str], None] = lambda line: None, *, overrides: Sequence[str] = ()) -> Run:
    """Continue an interrupted run after its last completed epoch; the result is the same as without the interruption.

    A run that diverged is continued with a lower learning rate.

    Args:
        run: the run, as `Run.find_unfinished` returns it. A finished run is returned unchanged.
        on_progress: called with one line of text at each step of the run.
        overrides: ``key=value`` strings that change the recipe of the run, such as ``train.optimizer.lr=0.001``; the
            keys are `tamiz_train.resumption.CHANGEABLE`.

    Returns:
        the finished run.

    Raises:
        RecipeError: the images or the initial weights of the run are missing, or a key cannot be changed.
        RunError: the images or their labels have changed, or training failed.
        TrackingError: the tracking store cannot be used.
        KeyboardInterrupt: the process received SIGINT or SIGTERM.
    """
    check_instance("run", run, Run)
    check_progress(on_progress)
    check_overrides(overrides)
    if run.finished:
        on_progress(f"{run.path} is finished; there is nothing to resume")
        return run
    with connect_processes() as processes:
        if overrides:
            run = processes.from_first(change_recipe(run, overrides) if processes.first else None)
        setup = check(run.recipe)
        _require_readable_test(setup, processes)
        if changed := changed_splits(run, setup.data):
            raise RunError(
                f"{run.recipe.data.root}: the images for {' and '.join(sorted(changed))} have changed since the run "
                "was started; restore them, or start a new run"
            )
        return _complete(run, setup, processes, on_progress)


def _require_readable_test(setup: Setup, processes: Processes) -> None:
    """Read the test images, because training, which reads the others, would end before the first of them is read."""
    if processes.first and setup.recipe.data.on_unreadable == "stop":
        find_unreadable_images(setup, [setup.data.test])


def _create_run(setup: Setup) -> Run:
    run = Run.create(setup.recipe)
    record_data(run, setup.data, setup.recipe.data.root)
    return run


def _complete(run: Run, setup: Setup, processes: Processes, on_progress: Callable[[str], None]) -> Run:
    if not processes.first:
        on_progress = _ignore
    for line in str(setup).splitlines():
        on_progress(line)
    if setup.recipe.train.compile:
        # Compiled in place, which leaves the names of the weights unchanged.
        setup.classifier.compile()
    with Tracker.start(run, processes) as tracker:
        try:
            result = fit(
                setup.classifier,
                setup.recipe,
                setup.data,
                run.path,
                loggers=tracker.loggers,
                processes=processes,
                on_progress=on_progress,
            )
        except KeyboardInterrupt:
            on_progress(
                f"interrupted; to continue from the last completed epoch, type: tamiz train --resume {run.path}"
            )
            raise
        if processes.first:
            with training_errors(run.path):
                _finish(run, setup, result, tracker, on_progress)
        processes.wait()
    return run


def _finish(run: Run, setup: Setup, result: FitResult, tracker: Tracker, on_progress: Callable[[str], None]) -> None:
    """Measure the best epoch, and save everything."""
    recipe, data, spec, classifier = setup.recipe, setup.data, setup.spec, setup.classifier
    unreadable = set(result.unreadable)
    measured: dict[str, dict[str, float]] = {}
    for split in (data.validation, data.test):
        evaluation = evaluate(classifier, split, spec)
        if not np.isfinite(evaluation.probabilities).all():
            raise RunError(
                f"training failed in {run.path}: it diverged, and the network's output is not finite; lower the "
                "learning rate"
            )
        if split is data.validation and recipe.thresholds == "tuned" and data.task == "multilabel":
            spec = spec.model_copy(update={"thresholds": tune_thresholds(evaluation)})
            evaluation = evaluation.with_spec(spec)
        unreadable.update(evaluation.unreadable)
        measured[split.name] = evaluation.metrics
    metrics = {
        **measured,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "parameters": sum(weight.numel() for weight in classifier.parameters()),
        "images": {split.name: len(split) for split in data.splits},
        "left_out": data.left_out,
        "unreadable_images": sorted(unreadable),
        "mlflow_run_id": tracker.run_id,
    }
    parity_images = choose_images(data.validation, spec.preprocessing)
    run.finish(classifier.network.state_dict(), spec, metrics, parity_images)
    tracker.finish(run, measured)
    if recipe.tracking.log_model and tracker.run_id is not None:
        tracker.log_model(export(run).path)
    for message in sorted(unreadable):
        on_progress(f"left out: {message}")
    if unreadable:
        images = (
            "1 image could not be read and was"
            if len(unreadable) == 1
            else (f"{len(unreadable):,} images could not be read and were")
        )
        on_progress(f"{images} left out")
    # The data may have no test images, or none that can be read.
    measured_on = "test" if measured["test"] else "validation"
    name, value = next(iter(measured[measured_on].items()), ("accuracy", float("nan")))
    note = "" if len(data.test) else "; the data has no test images"
    on_progress(f"best epoch {result.best_epoch}: {measured_on} {name} {value:.4f}{note}")


def _ignore(line: str) -> None:
    """Report nothing: only the first process reports progress."""
