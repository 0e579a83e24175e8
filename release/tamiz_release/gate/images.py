"""The images on which the gate measures a candidate: images that the model was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from tamiz.arguments import check_flag, check_instance, check_path, check_text, check_type, show_path
from tamiz.errors import RecipeError, RunError, UsageError
from tamiz.image_files import summarise, walk
from tamiz.spec import ModelSpec
from tamiz_train.data import Split, load_data
from tamiz_train.labelled_images import Image, LabelledImages, from_split, read_labelled_folder
from tamiz_train.run import Run
from tamiz_train.run_data import changed_splits, load_run_data


@dataclass(frozen=True)
class GateImages:
    """Images on which a candidate is measured.

    Attributes:
        origin: what the images are, for people, such as ``test images``.
        images: the images; the labels of each are empty if they are unknown.
        labelled: whether the labels are known. Without labels, the candidate is compared with its reference, and not
            with the truth.
        contents: the hash of the images with their labels that the run recorded, if they are its test images.
        notes: what limits the meaning of figures on these images.
    """

    origin: str
    images: LabelledImages
    labelled: bool = True
    contents: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_text("origin", self.origin, "what the images are")
        check_instance("images", self.images, LabelledImages)
        check_flag("labelled", self.labelled)
        check_type("contents", self.contents, (str, type(None)), "a hash, or None")
        check_type("notes", self.notes, tuple, "a tuple of texts")

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, most: int) -> GateImages:
        """At most so many of the images, spread evenly over all, because images in folders are ordered by label."""
        if len(self) <= most:
            return self
        return self.take(np.linspace(0, len(self) - 1, most).astype(int).tolist())

    def unseen(self, fitted: frozenset[bytes]) -> list[int]:
        """Indices of the images whose content is not among the given content hashes."""
        return [index for index, seen in enumerate(self.images.among(fitted)) if not seen]

    def take(self, indices: Iterable[int]) -> GateImages:
        """The images at the given indices."""
        return replace(self, images=self.images.take(indices))

    def to_split(self, spec: ModelSpec) -> Split:
        """The images as a split with the labels of a model; without labels, no image has one.

        Raises:
            UsageError: an image has several labels, or none, and the model is multiclass.
        """
        if self.labelled:
            return self.images.to_split(spec)
        count, labels = len(self), len(spec.labels)
        targets = np.zeros((count, labels), np.float32) if spec.task == "multilabel" else np.full(count, -1, np.int64)
        return Split(self.images.name, cast("Sequence[Path]", self.images.images), targets)


def run_images(run: Run) -> GateImages:
    """The held-out images of a run.

    They are its test images; its validation images if it has no test images; and if its data cannot be found, the
    prepared validation images that the run keeps, which have no labels. There may be none.

    Raises:
        RunError: the images that the run keeps cannot be read.
    """
    check_instance("run", run, Run)
    try:
        data = load_data(run.recipe.data, run.recipe.train.seed)
        name = "test" if len(data.test) else "validation"
        if run.fitted_images is None:
            # Otherwise the images that the run was fitted to are known by their content, wherever they are now.
            data = load_run_data(run, [name])
        changed = name in changed_splits(run, data)
    except (RecipeError, RunError) as exc:
        return _kept_images(run, str(exc))
    notes = [f"the {name} images are not those that the run recorded"] if changed else []
    contents = run.contents.get("test") if name == "test" and not changed else None
    found = from_split(data.split(name), data.labels)
    return GateImages(f"{name} images", found, contents=contents, notes=tuple(notes))


def _kept_images(run: Run, reason: str) -> GateImages:
    kept = run.parity_images
    if kept is None or not len(kept):
        return GateImages("no images", _without_labels("none", []), False, notes=(f"there are no images: {reason}",))
    # An image of one channel is [height, width].
    pixels = [image[..., 0] if image.shape[2] == 1 else image for image in kept]
    return GateImages(
        "validation images that the run keeps",
        _without_labels("validation", pixels),
        labelled=False,
        notes=(f"the images have no labels, because the data of the run is not here: {reason}",),
    )


def folder_images(folder: Path, spec: ModelSpec) -> GateImages:
    """The images of a folder; their labels are the names of its folders if these are labels of the model.

    Raises:
        UsageError: there is no such folder, or no image in it; or some of its folders are labels, and others are not.
    """
    check_path("folder", folder, "the path of a folder")
    check_instance("spec", spec, ModelSpec)
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"--images {show_path(folder)}: no such folder")
    if {path.name for path in folder.iterdir() if path.is_dir()} & set(spec.labels):
        found = read_labelled_folder(folder)
        found.require_labels(spec.labels, "the model does not have")
        notes = [summarise(found.left_out)] if found.left_out else []
        return GateImages(f"images of {folder}", found, notes=tuple(notes))
    paths = [Path(found.path) for found in walk(folder) if not found.left_out and not found.error]
    if not paths:
        raise UsageError(f"--images {folder}: no images")
    return GateImages(
        f"images of {folder}",
        _without_labels(folder.resolve().name, paths),
        labelled=False,
        notes=("the images have no labels: no folder has the name of a label of the model",),
    )


def _without_labels(name: str, images: Sequence[Image]) -> LabelledImages:
    return LabelledImages(name, images, [()] * len(images))
