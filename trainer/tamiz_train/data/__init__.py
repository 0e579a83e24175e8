"""The images of a recipe: found (`read_…`), split (`load_data`), loaded (`create_loader`), checked and shown."""

from __future__ import annotations

import random

import numpy as np
import torchvision

from tamiz.errors import RecipeError

from ..settings import CsvData, DataSettings, FolderData, TorchvisionData, VocData
from .folders import read_folders
from .loader import Batch, create_loader
from .manifest import read_manifest
from .split import SPLITS, Data, Source, Split, Task, divide
from .voc import read_voc

__all__ = ["Batch", "Data", "Split", "Task", "create_loader", "load_data"]


def load_data(settings: DataSettings, seed: int) -> Data:
    """Find and split a recipe's images.

    Args:
        settings: the recipe's ``data``.
        seed: of the random splits and the subset.

    Raises:
        RecipeError: there are no images where the recipe says, or they do not fit each other.
    """
    source = _read(settings)
    if not len(source.splits.get("train", ())):
        raise RecipeError(f"data: none of the images of {settings.root} is for training")
    if source.task == "multilabel" and len(source.labels) < 2:
        raise RecipeError(
            f"data: images of several labels want two or more, and there is {' '.join(source.labels) or 'none'}; to "
            "tell images with a label from those without, give each one of two labels"
        )
    train, given = source.splits["train"], source.splits
    if "test" not in given:
        assert not isinstance(settings, TorchvisionData)
        train, test = divide(train, settings.test_share, "test", seed)
    else:
        test = given["test"]
    if "validation" in given:
        validation = given["validation"]
    elif settings.validation_from == "test":
        test, validation = divide(test, settings.validation_share, "validation", seed)
    else:
        train, validation = divide(train, settings.validation_share, "validation", seed)
    if settings.subset_size is not None:
        if settings.subset_size > len(train):
            raise RecipeError(
                f"data.subset_size: {settings.subset_size} of {len(train)} training images; ask for fewer"
            )
        train = train.take(sorted(random.Random(seed).sample(range(len(train)), settings.subset_size)))
    drawn = frozenset(SPLITS) - given.keys()
    if settings.validation_from == "test" and "validation" in drawn:
        drawn |= {"test"}
    return Data(source.labels, source.task, train, validation, test, drawn)


def _read(settings: DataSettings) -> Source:
    match settings:
        case FolderData():
            return read_folders(settings)
        case CsvData():
            return read_manifest(settings)
        case VocData():
            return read_voc(settings)
        case TorchvisionData():
            return _read_torchvision(settings)


def _read_torchvision(settings: TorchvisionData) -> Source:
    kind = getattr(torchvision.datasets, settings.name)
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        parts = {name: kind(settings.root, train=name == "train", download=True) for name in ("train", "test")}
    except Exception as exc:
        # torchvision raises whatever its download or the disk gave it.
        raise RecipeError(f"data.root: {settings.name} is not in {settings.root} and cannot be had: {exc}") from exc
    splits = {
        name: Split(name, np.asarray(part.data), np.asarray(part.targets, np.int64)) for name, part in parts.items()
    }
    return Source(tuple(parts["train"].classes), "multiclass", splits)
