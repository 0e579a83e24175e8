"""Images with their true labels, to evaluate any model on: from a folder, or from the splits of runs.

A `tamiz_train.data.Split` has indices of the labels of one model; labelled images have the labels themselves, so that
models with other labels, or with the same labels in another order, are evaluated on the same images.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from tamiz.arguments import check_instance, check_list, check_path, check_type, show_path
from tamiz.errors import UsageError, list_names, os_reason, suggest
from tamiz.image_files import walk, why_folder_left_out
from tamiz.spec import ModelSpec

from .data import Split
from .data.content import content_hashes
from .data.labels import to_label

OUTSIDE = "images outside the label folders"
"""Why an image is left out that is in no label folder."""

Image = Path | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImages:
    """Images with their true labels.

    Attributes:
        name: name of the images, such as that of their folder.
        images: path, or pixels uint8 ``[height, width(, 3)]``, of each image.
        labels: the true labels of each image: exactly one unless the images are from multilabel data.
        left_out: number of files that were found and are not used, by reason.
    """

    name: str
    images: Sequence[Image]
    labels: Sequence[tuple[str, ...]]
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        check_type("name", self.name, str, "the name of the images")
        check_list("images", self.images, "a list of paths or of arrays [height, width(, 3)]")
        check_list("labels", self.labels, "a list with the labels of each image as a tuple")
        for index, labels in enumerate(self.labels):
            check_list(f"labels[{index}]", labels, "a tuple of labels")
        check_type("left_out", self.left_out, Counter, "a collections.Counter")
        if len(self.images) != len(self.labels):
            raise UsageError(
                f"labels: those of {len(self.labels):,} of {len(self.images):,} images; give those of each image"
            )

    def __len__(self) -> int:
        return len(self.images)

    def label_counts(self) -> Counter[str]:
        """Number of images with each label."""
        return Counter(label for labels in self.labels for label in labels)

    def take(self, indices: Iterable[int]) -> LabelledImages:
        """The images at the given indices."""
        indices = list(indices)
        images, labels = [self.images[index] for index in indices], [self.labels[index] for index in indices]
        return LabelledImages(self.name, images, labels, self.left_out)

    def among(self, hashes: frozenset[bytes]) -> list[bool]:
        """Whether the content of each image is among the given content hashes."""
        return [content in hashes for content in content_hashes(self.images)]

    def to_split(self, spec: ModelSpec) -> Split:
        """The images as a split with the labels of a model.

        The target of an image whose label the model does not have is -1 (multilabel: the label is left out).

        Args:
            spec: spec of the model.

        Raises:
            UsageError: an image has several labels, or none, and the model is multiclass.
        """
        check_instance("spec", spec, ModelSpec)
        place = {label: index for index, label in enumerate(spec.labels)}
        images = cast("Sequence[Path]", self.images)
        if spec.task == "multilabel":
            targets = np.zeros((len(self), len(place)), np.float32)
            for row, labels in enumerate(self.labels):
                targets[row, [place[label] for label in labels if label in place]] = 1
            return Split(self.name, images, targets)
        if any(len(labels) != 1 for labels in self.labels):
            raise UsageError(f"{self.name}: images with several labels or none cannot measure a multiclass model")
        return Split(self.name, images, np.array([place.get(label, -1) for (label,) in self.labels], np.int64))

    def require_labels(self, known: Collection[str], who: str) -> None:
        """Check that all labels of the images are known.

        Args:
            known: the known labels.
            who: the beginning of the error message, such as ``runs/digits does not have``.

        Raises:
            UsageError: a label is not known.
        """
        counts = self.label_counts()
        if unknown := sorted(counts.keys() - set(known)):
            named = list_names([f"{label} ({counts[label]:,} images)" for label in unknown])
            raise UsageError(
                f"{self.name}: {who} the labels {named}{suggest(unknown[0], known)}; rename their folders, or "
                "move them away"
            )


def read_labelled_folder(folder: Path) -> LabelledImages:
    """Find the images in ``<folder>/<label>/…``.

    Raises:
        UsageError: there is no such folder, it has no images in label folders, or a folder cannot be read.
    """
    check_path("folder", folder, "the path of a folder with one folder per label")
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"--images {show_path(folder)}: no such folder; give a folder with one folder per label")
    images: list[Image] = []
    labels: list[tuple[str, ...]] = []
    left_out: Counter[str] = Counter()
    try:
        folders = {
            entry.name: to_label(entry.name)
            for entry in folder.iterdir()
            if entry.is_dir() and not why_folder_left_out(entry.name)
        }
    except OSError as exc:
        raise UsageError(f"--images {folder}: {os_reason(exc)}") from exc
    except ValueError as exc:
        raise UsageError(f"--images {folder}: {exc}; rename the folder") from exc
    for found in walk(folder):
        first, _, rest = os.path.relpath(found.path, folder).partition(os.sep)
        if found.error:
            raise UsageError(f"--images {found.path}: {found.error}")
        if found.left_out:
            left_out[found.left_out] += 1
        elif not rest:
            left_out[OUTSIDE] += 1
        else:
            images.append(Path(found.path))
            labels.append((folders[first],))
    if not images:
        raise UsageError(
            f"--images {folder}: no images in label folders; put the images of each label into a folder of its own"
        )
    return LabelledImages(folder.resolve().name, images, labels, left_out)


def from_split(split: Split, labels: Sequence[str]) -> LabelledImages:
    """The images of a split, with their labels instead of the indices of labels."""
    return LabelledImages(split.name, [split.images[index] for index in range(len(split))], split.labels(labels))


def merge(parts: Iterable[LabelledImages]) -> LabelledImages:
    """The images of several parts; of images with the same content, the first one."""
    images: list[Image] = []
    labels: list[tuple[str, ...]] = []
    known: set[bytes] = set()
    names = []
    for part in parts:
        names.append(part.name)
        for image, named, content in zip(part.images, part.labels, content_hashes(part.images), strict=True):
            if not content or content not in known:
                images.append(image)
                labels.append(named)
                known.add(content)
    return LabelledImages(" and ".join(dict.fromkeys(names)), images, labels)
