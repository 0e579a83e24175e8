"""The images of a recipe: found, split, loaded.

`load_data` finds the images and splits them; `create_loader` gives batches. Images come out as uint8 pixels of
the model's size, prepared by the client's own `tamiz.preprocessing`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import albumentations as A
import numpy as np
import numpy.typing as npt
import torch
import torchvision
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from tamiz.errors import InvalidImageError, RecipeError
from tamiz.preprocessing import SUFFIXES, ImageSource, decode, resize
from tamiz.spec import Preprocessing

from .recipe import FolderData, TorchvisionData


@dataclass(frozen=True)
class Split:
    """Images of one purpose with their labels.

    Attributes:
        name: ``train``, ``validation`` or ``test``.
        images: paths, or uint8 ``[count, height, width(, 3)]``.
        targets: int64 ``[count]``, each an index into the labels.
    """

    name: str
    images: Sequence[Path] | npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Data:
    """A data set: its labels, and its images in three splits."""

    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def split(self, name: str) -> Split:
        """The split of that name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


class Batch(NamedTuple):
    """Images that could be read, with their places in the split, and the names of those that could not.

    Attributes:
        images: uint8 ``[batch, height, width, channels]``.
        targets: int64 ``[batch]``.
        indices: int64 ``[batch]``.
        broken: one message for each image that could not be read.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    broken: list[str]


def load_data(settings: FolderData | TorchvisionData, seed: int) -> Data:
    """Find and split a recipe's images.

    Args:
        settings: the recipe's ``data``.
        seed: of the random splits and the subset.

    Raises:
        RecipeError: there are no images where the recipe says, or the class folders do not fit each other.
    """
    data = _load_torchvision(settings, seed) if settings.kind == "torchvision" else _load_folders(settings, seed)
    if settings.subset_size is None:
        return data
    if settings.subset_size > len(data.train):
        raise RecipeError(
            f"data.subset_size: {settings.subset_size} of {len(data.train)} training images; ask for fewer"
        )
    chosen = sorted(random.Random(seed).sample(range(len(data.train)), settings.subset_size))
    return Data(data.labels, _take(data.train, chosen, "train"), data.validation, data.test)


def create_loader(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augmentation: A.Compose | None = None,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
) -> DataLoader[Batch]:
    """Batches of a split.

    Args:
        split: the images.
        preprocessing: the size and colour of the model's input.
        batch_size: images a batch.
        augmentation: for training; evaluation has none.
        shuffle: new order each epoch.
        seed: of the order.
        num_workers: processes that load images.
    """
    return DataLoader(
        _Images(split, preprocessing, augmentation),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        collate_fn=_collate,
        worker_init_fn=_seed_augmentation,
        generator=torch.Generator().manual_seed(seed),
    )


class _Images(Dataset[tuple[Any, int, int]]):
    def __init__(self, split: Split, preprocessing: Preprocessing, augmentation: A.Compose | None) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, int, int]:
        image: ImageSource = self.split.images[index]
        try:
            pixels = decode(image, self.preprocessing.colour)
        except InvalidImageError as exc:
            # Told in the batch, not raised: an exception in a worker process would end the run.
            return str(exc), -1, index
        if self.augmentation is not None:
            pixels = self.augmentation(image=pixels)["image"]
        return resize(pixels, self.preprocessing), int(self.split.targets[index]), index


def _collate(samples: list[tuple[Any, int, int]]) -> Batch:
    good = [sample for sample in samples if sample[1] >= 0]
    pixels = np.stack([image for image, _, _ in good]) if good else np.empty((0, 1, 1, 1), np.uint8)
    return Batch(
        torch.from_numpy(pixels),
        torch.tensor([target for _, target, _ in good], dtype=torch.int64),
        torch.tensor([index for _, _, index in good], dtype=torch.int64),
        [message for message, target, _ in samples if target < 0],
    )


def _seed_augmentation(_: int) -> None:
    worker = get_worker_info()
    if worker is not None and worker.dataset.augmentation is not None:
        worker.dataset.augmentation.set_random_seed(worker.seed % 2**32)


def _load_torchvision(settings: TorchvisionData, seed: int) -> Data:
    kind = getattr(torchvision.datasets, settings.name)
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        train, test = (kind(settings.root, train=train, download=True) for train in (True, False))
    except Exception as exc:
        # torchvision raises whatever its download or the disk gave it.
        raise RecipeError(f"data.root: {settings.name} is not in {settings.root} and cannot be had: {exc}") from exc
    whole = Split("train", np.asarray(train.data), np.asarray(train.targets, np.int64))
    fit, validation = _divide(whole, settings.validation_share, "validation", seed)
    tested = Split("test", np.asarray(test.data), np.asarray(test.targets, np.int64))
    return Data(tuple(train.classes), fit, validation, tested)


def _load_folders(settings: FolderData, seed: int) -> Data:
    root = settings.root
    if not root.is_dir():
        raise RecipeError(f"data.root: there is no folder {root}; make it, or set data.root to where the images are")
    train_folder = root / "train" if (root / "train").is_dir() else root
    labels = _class_folders(train_folder)
    if len(labels) < 2:
        raise RecipeError(f"data.root: {train_folder} holds {len(labels)} class folders; two or more are needed")
    problems: list[str] = []
    train = _read_folder(train_folder, "train", labels, problems)
    given = {
        name: _read_folder(root / name, name, labels, problems)
        for name in ("validation", "test")
        if train_folder != root and (root / name).is_dir()
    }
    if problems:
        raise RecipeError(f"data.root: {'; '.join(problems)}")
    if "test" not in given:
        train, given["test"] = _divide(train, settings.test_share, "test", seed)
    if "validation" not in given:
        train, given["validation"] = _divide(train, settings.validation_share, "validation", seed)
    return Data(labels, train, given["validation"], given["test"])


def _class_folders(folder: Path) -> tuple[str, ...]:
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    # Cluster numbers in the order of numbers: 2 before 10.
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name)))


def _read_folder(folder: Path, name: str, labels: tuple[str, ...], problems: list[str]) -> Split:
    found = _class_folders(folder)
    if extra := sorted(set(found) - set(labels)):
        problems.append(f"{folder} has class folders that train has not: {', '.join(extra)}")
    images: list[Path] = []
    targets: list[int] = []
    for target, label in enumerate(labels):
        paths = sorted(path for path in (folder / label).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not paths and name == "train":
            problems.append(f"class folder {folder / label} holds no images")
        images += paths
        targets += [target] * len(paths)
    if not images and name != "train":
        problems.append(f"{folder} holds no images in class folders")
    return Split(name, images, np.array(targets, np.int64))


def _divide(split: Split, share: float, name: str, seed: int) -> tuple[Split, Split]:
    few = [index for index, count in Counter(split.targets.tolist()).items() if count < 2]
    classes = len(set(split.targets.tolist()))
    size = max(classes, round(len(split) * share))
    if few or size > len(split) - classes:
        raise RecipeError(
            f"data: {len(split)} images of {classes} classes are too few to split off {name} images of each class"
        )
    kept, taken = train_test_split(np.arange(len(split)), test_size=size, random_state=seed, stratify=split.targets)
    # In the order of the whole, so that an unshuffled run sees the images as they were given.
    return _take(split, sorted(kept), split.name), _take(split, sorted(taken), name)


def _take(split: Split, indices: Sequence[int], name: str) -> Split:
    images = split.images[indices] if isinstance(split.images, np.ndarray) else [split.images[i] for i in indices]
    return Split(name, images, split.targets[indices])
