"""Training: from a recipe to a finished run, also after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lightning as L
import numpy as np
import torch

from tamiz.errors import InvalidImageError, RecipeError, RunError, one_line
from tamiz.image_files import summarise
from tamiz.preprocessing import decode
from tamiz.spec import ModelSpec

from .augmentation import check_augmentation, create_augmentation
from .classifier import Classifier
from .data import Data, Split, load_data
from .data.check import find_unreadable
from .data.labels import list_some
from .distributed import Processes, connect_processes
from .evaluation import tune_thresholds
from .inference import evaluate
from .loss import create_loss
from .model_input import model_input
from .networks import build_classifier, check_name
from .onnx_export import export
from .optimization import create_optimizer, create_schedule, freeze
from .parity import choose_images
from .phases import FitResult, fit
from .recipe import ModelSettings, Recipe
from .resumption import change_recipe
from .run import Run
from .tracking import Tracker
from .training_errors import training_errors
from .validation import monitored_metric

if TYPE_CHECKING:
    import albumentations as A


@dataclass(frozen=True)
class Setup:
    """What a recipe refers to, found and checked.

    Attributes:
        recipe: the recipe, with the input that it left to the model.
        data: the data set.
        spec: the spec of the model, before thresholds are tuned.
        classifier: the classifier with its initial weights.
    """

    recipe: Recipe
    data: Data
    spec: ModelSpec
    classifier: Classifier

    def __str__(self) -> str:
        """A line about the recipe, network and images, and one each about left-out files and another precision."""
        images = " + ".join(f"{len(split):,}" for split in self.data.splits)
        summary = (
            f"{self.recipe.name}: {self.recipe.model.name} ({self.classifier.parameter_summary()}), "
            f"{len(self.data.labels)} labels, {images} images for training, validation and test"
        )
        settings = self.recipe.train
        precision = None
        if settings.precision == "16-mixed" and (settings.device == "cpu" or not torch.cuda.is_available()):
            precision = "train.precision: 16-mixed needs a GPU; bf16-mixed is used on this CPU"
        return "\n".join(filter(None, [summary, summarise(self.data.left_out), precision]))


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
    if run.finished:
        on_progress(f"{run.path} is finished; there is nothing to resume")
        return run
    with connect_processes() as processes:
        if overrides:
            run = processes.from_first(change_recipe(run, overrides) if processes.first else None)
        setup = check(run.recipe)
        _require_readable_test(setup, processes)
        if changed := run.changed_splits(setup.data):
            raise RunError(
                f"{run.recipe.data.root}: the images for {' and '.join(sorted(changed))} have changed since the run "
                "was started; restore them, or start a new run"
            )
        return _complete(run, setup, processes, on_progress)


def check(recipe: Recipe) -> Setup:
    """Find everything that a recipe refers to, and check that it fits together, without training.

    Returns:
        the data set, the spec, and the classifier with its initial weights.

    Raises:
        RecipeError: the recipe refers to something that is missing or does not fit.
    """
    settings = recipe.train
    L.seed_everything(settings.seed, workers=True, verbose=False)
    if settings.num_threads is not None:
        torch.set_num_threads(settings.num_threads)
    check_name(recipe.model)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("train.device: cuda: PyTorch finds no GPU on this machine; set it to auto or cpu")
    preprocessing, normalisation = model_input(recipe)
    recipe = recipe.with_input(preprocessing, normalisation)
    data = load_data(recipe.data, settings.seed)
    spec = ModelSpec(
        task=data.task,
        labels=data.labels,
        # If they are tuned, the final ones are set at the end of training.
        thresholds=_initial_thresholds(recipe, data) if data.task == "multilabel" else None,
        preprocessing=preprocessing,
        normalisation=normalisation,
    )
    classifier = build_classifier(recipe.model, spec)
    _check_optimization(recipe, data, classifier)
    augmentation = create_augmentation(recipe.augmentation, settings.seed)
    if augmentation is not None:
        _check_augmentation(augmentation, data.train, spec, skip=recipe.data.on_unreadable == "skip")
    _check_input_size(recipe.model, classifier, spec)
    return Setup(recipe, data, spec, classifier)


def _initial_thresholds(recipe: Recipe, data: Data) -> tuple[float, ...]:
    threshold = 0.5 if recipe.thresholds == "tuned" else recipe.thresholds
    return (threshold,) * len(data.labels)


def _check_optimization(recipe: Recipe, data: Data, classifier: Classifier) -> None:
    """Create the loss, the optimizers and the schedules, only to find errors before a run is created."""
    settings = recipe.train
    create_loss(settings, data)
    monitor = monitored_metric(settings, data.task)
    # From the last phase to the first, whose frozen weights are those that training starts with.
    for phase in reversed(settings.all_phases()):
        freeze(classifier, phase.trainable)
        optimizer = create_optimizer(settings.optimizer, phase.lr, classifier)
        if settings.schedule:
            create_schedule(settings.schedule, optimizer, epochs=phase.epochs, total_steps=100, monitor=monitor)


def _check_augmentation(augmentation: A.Compose, split: Split, spec: ModelSpec, *, skip: bool) -> None:
    """Apply the augmentation to the first image that can be read; if failures are skipped, until one works."""
    failure = None
    for index, image in enumerate(split.images[:100]):
        try:
            pixels = decode(image, spec.preprocessing.colour, revision=spec.preprocessing.revision)
        except InvalidImageError:
            continue
        try:
            check_augmentation(augmentation, pixels)
            return
        except RecipeError as exc:
            failure = failure or RecipeError(f"{split.image_name(index)}: {exc}")
            if not skip:
                break
    if failure:
        raise failure


def _check_input_size(settings: ModelSettings, classifier: Classifier, spec: ModelSpec) -> None:
    """Run the network on a batch of two images."""
    try:
        _run_once(classifier, spec)
    # Networks of timm raise errors of any kind for a size that does not fit.
    except Exception as exc:
        height, width = spec.preprocessing.height, spec.preprocessing.width
        hint = "set preprocessing to another size"
        if _takes_img_size(settings, spec):
            hint = f"set model.options: {{img_size: [{height}, {width}]}}"
        reason = one_line(exc).rstrip(".") or type(exc).__name__
        raise RecipeError(f"model: cannot process images of {height}x{width}: {reason}; {hint}") from exc
    finally:
        classifier.train()


def _run_once(classifier: Classifier, spec: ModelSpec) -> None:
    with torch.no_grad():
        classifier.eval()(torch.zeros((2, *spec.preprocessing.shape), dtype=torch.uint8))


def _takes_img_size(settings: ModelSettings, spec: ModelSpec) -> bool:
    """Whether the network can process the images if it is built for their size."""
    if "img_size" in settings.options:
        return False
    size = [spec.preprocessing.height, spec.preprocessing.width]
    sized = settings.model_copy(update={"options": {**settings.options, "img_size": size}})
    try:
        _run_once(build_classifier(sized, spec, initial_weights=False), spec)
    except Exception:
        return False
    return True


def _require_readable_test(setup: Setup, processes: Processes) -> None:
    """Read the test images, because training, which reads the others, would end before the first of them is read."""
    if processes.first and setup.recipe.data.on_unreadable == "stop":
        unreadable = find_unreadable(setup.data.test, setup.spec.preprocessing)
        if unreadable:
            raise RunError(f"{list_some(unreadable, '; ')}; set data.on_unreadable to skip to leave such images out")


def _create_run(setup: Setup) -> Run:
    run = Run.create(setup.recipe)
    run.record_data(setup.data, setup.recipe.data.root)
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
        on_progress(f"{len(unreadable)} images could not be read and were left out")
    # The data may have no test images, or none that can be read.
    measured_on = "test" if measured["test"] else "validation"
    name, value = next(iter(measured[measured_on].items()), ("accuracy", float("nan")))
    note = "" if len(data.test) else "; the data has no test images"
    on_progress(f"best epoch {result.best_epoch}: {measured_on} {name} {value:.4f}{note}")


def _ignore(line: str) -> None:
    """Report nothing: only the first process reports progress."""
