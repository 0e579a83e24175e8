"""Loading a data set: find the images and labels of a recipe, and divide them into three splits."""

from __future__ import annotations

import random

from tamiz.errors import RecipeError

from ..recipe.data import CsvData, DataSettings, FolderData, TorchvisionData, VocData
from .folders import read_folders
from .manifest import read_manifest
from .split import SPLITS, Data, Source, divide
from .torchvision_sets import read_torchvision
from .voc import read_voc


def load_data(settings: DataSettings, seed: int) -> Data:
    """Find the images of a recipe and divide them into training, validation and test images.

    Args:
        settings: the section ``data`` of the recipe.
        seed: the seed of the random splits and of the random subset.

    Raises:
        RecipeError: the images or their labels cannot be found, or are inconsistent.
    """
    source = _read(settings)
    if not len(source.splits.get("train", ())):
        raise RecipeError(f"data: no images for training in {settings.root}")
    if source.task == "multilabel" and len(source.labels) < 2:
        raise RecipeError(
            f"data: multilabel data needs two or more labels, not {' '.join(source.labels) or 'none'}; to separate "
            "images with a label from images without it, use the column label with two labels"
        )
    train, given = source.splits["train"], source.splits
    if "test" not in given:
        assert not isinstance(settings, TorchvisionData)
        train, test = divide(train, settings.test_fraction, "test", seed)
    else:
        test = given["test"]
    if "validation" in given:
        validation = given["validation"]
    elif settings.validation_from == "test":
        test, validation = divide(test, settings.validation_fraction, "validation", seed)
    else:
        train, validation = divide(train, settings.validation_fraction, "validation", seed)
    if settings.subset_size is not None:
        if settings.subset_size > len(train):
            raise RecipeError(
                f"data.subset_size: {settings.subset_size} is more than the {len(train)} training images; lower it"
            )
        train = train.take(sorted(random.Random(seed).sample(range(len(train)), settings.subset_size)))
    drawn = frozenset(SPLITS) - given.keys()
    if settings.validation_from == "test" and "validation" in drawn:
        drawn |= {"test"}
    return Data(source.labels, source.task, train, validation, test, drawn, source.left_out)


def _read(settings: DataSettings) -> Source:
    match settings:
        case FolderData():
            return read_folders(settings)
        case CsvData():
            return read_manifest(settings)
        case VocData():
            return read_voc(settings)
        case TorchvisionData():
            return read_torchvision(settings)
