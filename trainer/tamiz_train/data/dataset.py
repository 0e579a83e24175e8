"""Loading a data set: find the images and labels of a recipe, and divide them into three splits."""

from __future__ import annotations

import random

from tamiz.errors import RecipeError

from ..recipe.data import TEST_FRACTION, CsvData, DataSettings, FolderData, TorchvisionData, VocData
from .drawing import draw_split
from .folders import read_folders
from .manifest import read_manifest
from .split import Data, Source, Split
from .torchvision_sets import read_torchvision
from .voc import read_voc


def load_data(settings: DataSettings, seed: int) -> Data:
    """Find the images of a recipe and divide them into training, validation and test images.

    Args:
        settings: the section ``data`` of the recipe.
        seed: the seed of the splits that are drawn, and of the random subset.

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
    splits = _draw_missing(source, settings, seed)
    train = splits["train"]
    if settings.subset_size is not None:
        if settings.subset_size > len(train):
            raise RecipeError(
                f"data.subset_size: {settings.subset_size} is more than the {len(train)} training images; lower it"
            )
        train = train.take(sorted(random.Random(seed).sample(range(len(train)), settings.subset_size)))
    drawn = frozenset(splits) - source.splits.keys()
    if settings.validation_from == "test" and "validation" in drawn:
        drawn |= {"test"}
    test = splits.get("test", train.take([], "test"))
    return Data(source.labels, source.task, train, splits["validation"], test, drawn, source.left_out)


def _draw_missing(source: Source, settings: DataSettings, seed: int) -> dict[str, Split]:
    """The splits that the data itself defines, and those that are drawn from them."""
    splits, labels = dict(source.splits), source.labels
    draw_validation = "validation" not in splits
    from_test = draw_validation and settings.validation_from == "test"
    # Given training and validation images without test images are kept as they are, unless the recipe asks for more.
    if "test" not in splits and not isinstance(settings, TorchvisionData):
        fraction = settings.test_fraction or (TEST_FRACTION if draw_validation else None)
        if fraction is not None:
            least, keep = 1 + from_test, 1 + (draw_validation and not from_test)
            splits["train"], splits["test"] = draw_split(
                splits["train"], labels, fraction, "test", seed, least=least, keep=keep
            )
    if draw_validation:
        origin = settings.validation_from
        splits[origin], splits["validation"] = draw_split(
            splits[origin], labels, settings.validation_fraction, "validation", seed
        )
    return splits


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
