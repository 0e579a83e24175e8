"""The data model: images with their labels, in three splits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tamiz.arguments import check_choice, check_list, check_type, check_whole, wrong
from tamiz.errors import UsageError
from tamiz.path_text import path_to_text

from .content import content_hashes

Task = Literal["multiclass", "multilabel"]
SPLITS = ("train", "validation", "test")

SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
"""The split that a folder or a row of a manifest with such a name, in lower case, belongs to."""


def split_name(text: str) -> str | None:
    """The split that a text names, in any case; None if it names none."""
    return SPLIT_NAMES.get(text.lower())


@dataclass(frozen=True)
class Split:
    """The images of one split with their targets.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        images: the paths of the images, or their pixels, uint8 ``[images, height, width(, 3)]``.
        targets: multiclass: int64 ``[images]``, the index of each image's label; multilabel: float32
            ``[images, labels]``, 1 for each label that an image has and 0 for the others.
    """

    name: str
    images: Sequence[Path] | npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        check_type("name", self.name, str, "the name of a split")
        if not isinstance(self.images, np.ndarray) or self.images.ndim not in (3, 4):
            check_list("images", self.images, "a list of paths, or an array [images, height, width(, 3)]")
        if not isinstance(self.targets, np.ndarray) or len(self.targets.shape) not in (1, 2):
            raise wrong("targets", self.targets, "an array [images] or [images, labels]")
        if len(self.images) != len(self.targets):
            raise UsageError(
                f"targets: {len(self.targets):,} targets for {len(self.images):,} images; give one for each image"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def hashes(self) -> list[bytes]:
        """A hash of the content of each image; see `tamiz_train.data.content.content_hashes`."""
        return content_hashes(self.images)

    def image_name(self, index: int) -> str:
        """The path of an image as text; without files, the name of the split with the index, such as ``train[7]``."""
        check_whole("index", index, least=0, most=len(self) - 1)
        image = self.images[index]
        return f"{self.name}[{index}]" if isinstance(image, np.ndarray) else path_to_text(image)

    def labels(self, labels: Sequence[str]) -> list[tuple[str, ...]]:
        """The labels of each image, given the labels in the order of the targets."""
        if self.targets.ndim == 1:
            return [(labels[target],) for target in self.targets.tolist()]
        return [tuple(labels[index] for index in np.flatnonzero(target)) for target in self.targets]

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64], name: str | None = None) -> Split:
        """A split of the images at the given indices; it has the same name unless another one is given."""
        images = self.images[indices] if isinstance(self.images, np.ndarray) else [self.images[i] for i in indices]
        part = Split(name or self.name, images, self.targets[indices])
        if "hashes" in vars(self):
            # Known hashes go along, because computing them reads all images again.
            vars(part)["hashes"] = [self.hashes[index] for index in indices]
        return part

    def counts(self, labels: int) -> npt.NDArray[np.int64]:
        """The number of images that have each label, int64 ``[labels]``."""
        if self.targets.ndim == 2:
            counts: npt.NDArray[np.int64] = self.targets.sum(0).astype(np.int64)
            return counts
        return np.bincount(self.targets.astype(np.int64), minlength=labels)

    def fingerprint(self, root: Path) -> str:
        """A hash of the targets and of the images' paths below a folder; if the images are pixels, of the pixels."""
        digest = hashlib.blake2b(np.ascontiguousarray(self.targets).data, digest_size=16)
        if isinstance(self.images, np.ndarray):
            digest.update(np.ascontiguousarray(self.images).data)
        else:
            for path in self.images:
                digest.update(os.fsencode(str(path).removeprefix(str(root))) + b"\0")
        return digest.hexdigest()


@dataclass(frozen=True)
class Data:
    """A data set: its labels, and its images in three splits.

    Attributes:
        labels: the labels in the order of the targets.
        task: ``multiclass`` if each image has exactly one label, ``multilabel`` if it can have any number of labels.
        train: the images to train on.
        validation: the images that select the best epoch.
        test: the images that measure the trained model; none if the data defines training and validation images alone.
        drawn: the names of the splits that were drawn from another split; see `tamiz_train.data.drawing`.
        left_out: the number of files that were found and are not used, by reason.
    """

    labels: tuple[str, ...]
    task: Task
    train: Split
    validation: Split
    test: Split
    drawn: frozenset[str] = frozenset()
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    def split(self, name: str) -> Split:
        """The split with the given name."""
        check_choice("name", name, SPLITS)
        return {split.name: split for split in self.splits}[name]


@dataclass(frozen=True)
class Source:
    """A data set as it is found on disk, before missing splits are drawn.

    Attributes:
        labels: the labels in the order of the targets.
        task: ``multiclass`` or ``multilabel``.
        splits: the splits by name, as the data set itself defines them.
        left_out: the number of files that were found and are not used, by reason.
    """

    labels: tuple[str, ...]
    task: Task
    splits: Mapping[str, Split]
    left_out: Counter[str] = field(default_factory=Counter)
