"""Data: the images of a recipe with their labels, in three splits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from tamiz.errors import RecipeError

Task = Literal["multiclass", "multilabel"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Images of one purpose with their labels.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        images: paths, or uint8 ``[count, height, width(, 3)]``.
        targets: multiclass: int64 ``[count]``, each an index into the labels; multilabel: float32
            ``[count, labels]`` of 0 and 1.
    """

    name: str
    images: Sequence[Path] | npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64], name: str | None = None) -> Split:
        """The images at those places, as a split of that name."""
        images = self.images[indices] if isinstance(self.images, np.ndarray) else [self.images[i] for i in indices]
        return Split(name or self.name, images, self.targets[indices])

    def counts(self, labels: int) -> npt.NDArray[np.int64]:
        """Images of each of so many labels, int64 ``[labels]``."""
        if self.targets.ndim == 2:
            return self.targets.sum(0).astype(np.int64)
        return np.bincount(self.targets.astype(np.int64), minlength=labels)

    def fingerprint(self, root: Path) -> str:
        """Tells one choice of images with their targets from another: a hash of their names below a folder."""
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
        labels: in the order of the targets.
        task: whether an image has one of them or several.
        train: images to train on.
        validation: images to choose the best epoch by.
        test: images to measure the result on.
        drawn: names of the splits that were drawn by chance from another, so that one image more may change them whole.
    """

    labels: tuple[str, ...]
    task: Task
    train: Split
    validation: Split
    test: Split
    drawn: frozenset[str] = frozenset()

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Train, validation and test."""
        return self.train, self.validation, self.test

    def split(self, name: str) -> Split:
        """The split of that name."""
        return {split.name: split for split in self.splits}[name]


@dataclass(frozen=True)
class Source:
    """What a kind of data names itself: its labels, and the splits that it gives; ``train`` is always there."""

    labels: tuple[str, ...]
    task: Task
    splits: dict[str, Split]


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels by name, but numbers of clusters first and in the order of numbers: -1, 2, 10, other."""

    def key(label: str) -> tuple[int, int, str]:
        number = label.removeprefix("-").isdecimal() and label.isascii()
        # The label itself too: 1 and 01 are two.
        return (0, int(label), label) if number else (1, 0, label)

    return tuple(sorted(set(labels), key=key))


def divide(split: Split, share: float, name: str, seed: int) -> tuple[Split, Split]:
    """Split off a share: of each class the same share, or where images have several labels, at random.

    Raises:
        RecipeError: there are too few images for it.
    """
    multiclass = split.targets.ndim == 1
    few = multiclass and min(Counter(split.targets.tolist()).values()) < 2
    classes = len(set(split.targets.tolist())) if multiclass else 1
    size = max(classes, round(len(split) * share))
    if few or size > len(split) - classes:
        raise RecipeError(
            f"data: {len(split)} images of {classes} classes are too few to split off {name} images of each class"
        )
    kept, taken = train_test_split(
        np.arange(len(split)), test_size=size, random_state=seed, stratify=split.targets if multiclass else None
    )
    # In the order of the whole, so that an unshuffled run sees the images as they were given.
    return split.take(sorted(kept)), split.take(sorted(taken), name)
