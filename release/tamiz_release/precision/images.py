"""The images by which a precision is chosen: training images calibrate, validation images measure what is lost.

Where the data of a run is not on this machine, the prepared validation images that the run keeps take both places: one
half calibrates, the other half measures. Their labels are not kept, so that the share of equal labels is limited then
instead of the accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamiz.errors import InvalidImageError, RecipeError, RunError
from tamiz.image_bar import ImageBar
from tamiz.preprocessing import Pixels, prepare
from tamiz.spec import Preprocessing
from tamiz_train.data import Split, load_data
from tamiz_train.metrics import Targets
from tamiz_train.run import Run
from tamiz_train.run_data import changed_splits

CALIBRATION_IMAGES = 128
"""Largest number of images that calibrate: more change the ranges little."""

VALIDATION_IMAGES = 1000
"""Largest number of images that measure what is lost."""

MAX_BYTES = 256 * 2**20
"""Largest size of the prepared images of each kind, in bytes."""


@dataclass(frozen=True)
class SearchImages:
    """The images by which a precision is chosen; all are uint8 ``[images, height, width, channels]``.

    Attributes:
        calibration: images that determine the ranges of activations.
        validation: other images, on which graphs are compared.
        targets: the true labels of `validation`; None if they are unknown.
        calibration_source: where the calibration images are from, for the report.
        validation_source: where the validation images are from.
    """

    calibration: Pixels
    validation: Pixels
    targets: Targets | None
    calibration_source: str
    validation_source: str

    def describe(self) -> str:
        """One line of text."""
        return (
            f"calibrated on {len(self.calibration):,} {self.calibration_source}; measured on "
            f"{len(self.validation):,} {self.validation_source}"
        )


def load_images(run: Run) -> tuple[SearchImages, str | None]:
    """Load and prepare the images by which a precision of a run is chosen.

    Returns:
        the images; and, if the data of the run is not on this machine, a line that says so.

    Raises:
        RunError: neither the data of the run nor images that it keeps can be found, or too few of them are readable.
    """
    try:
        data = load_data(run.recipe.data, run.recipe.train.seed)
        changed = changed_splits(run, data) & {"train", "validation"}
        problem = f"other {' and '.join(sorted(changed))} images are in {run.recipe.data.root}" if changed else None
    except (RecipeError, RunError) as exc:
        problem = str(exc)
    if problem is not None:
        return _kept_images(run, problem)
    calibration, _ = _prepare(data.train, run.spec.preprocessing, CALIBRATION_IMAGES)
    validation, indices = _prepare(data.validation, run.spec.preprocessing, VALIDATION_IMAGES)
    if not len(calibration) or not len(validation):
        return _kept_images(run, f"no image in {run.recipe.data.root} can be read")
    targets = data.validation.targets[indices]
    return SearchImages(calibration, validation, targets, "training images", "validation images"), None


def _kept_images(run: Run, problem: str) -> tuple[SearchImages, str]:
    kept = run.parity_images
    if kept is None or len(kept) < 2:
        raise RunError(
            f"{run.path}: its data is not on this machine ({problem}), and the run keeps no validation images; export "
            "it where its data is, or restore the data"
        )
    source = "validation images that the run keeps"
    images = SearchImages(kept[::2], kept[1::2], None, source, source)
    return images, (
        f"the data of the run is not on this machine ({problem}): {images.describe()}; the share of equal labels is "
        "limited, because their true labels are unknown"
    )


def spread_over_labels(targets: Targets, seed: int = 0) -> Iterator[int]:
    """The indices of images in an order in which the labels take turns; each image once.

    Args:
        targets: int64 ``[images]``, or float32 ``[images, labels]`` of 0 and 1.
        seed: seed of the order of the images of one label.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    if targets.ndim == 1:
        groups = [order[targets[order] == label] for label in np.unique(targets)]
    else:
        # The rarest labels first; at the end the images without a label.
        labels = np.argsort(targets.sum(0), kind="stable")
        groups = [order[targets[order, label] > 0] for label in labels] + [order[~targets[order].any(1)]]
    seen: set[int] = set()
    queues = [iter(group.tolist()) for group in groups]
    while queues:
        waiting = []
        for queue in queues:
            index = next((index for index in queue if index not in seen), None)
            if index is not None:
                seen.add(index)
                yield index
                waiting.append(queue)
        queues = waiting


def _prepare(split: Split, preprocessing: Preprocessing, most: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Prepare images of a split, spread over its labels; those that cannot be read are left out."""
    most = min(len(split), most, max(2, MAX_BYTES // int(np.prod(preprocessing.shape))))
    prepared: list[Pixels] = []
    indices: list[int] = []
    with ImageBar(f"preparing {split.name} images", most) as bar:
        for index in spread_over_labels(split.targets):
            if len(prepared) == most:
                break
            try:
                prepared.append(prepare(split.images[index], preprocessing))
            except InvalidImageError:
                continue
            indices.append(index)
            bar.advance()
    pixels = np.stack(prepared) if prepared else np.empty((0, *preprocessing.shape), np.uint8)
    return pixels, np.array(indices, np.int64)
