"""Samples of a split: images as the network gets them in training, on a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tamiz.errors import InvalidImageError, RecipeError
from tamiz.preprocessing import Pixels, decode, prepare, resize

from .augmentation import check_augmentation, create_augmentation
from .data import Split
from .model_input import model_input
from .plots import contact_sheet
from .recipe import Recipe


def plot_samples(split: Split, labels: Sequence[str], recipe: Recipe, count: int = 16) -> bytes:
    """Plot a contact sheet of images spread over a split, each as the network gets it and, beside it, augmented.

    Args:
        split: the images and their targets.
        labels: the labels, in the order of the targets.
        recipe: the recipe, whose preprocessing and augmentation are applied.
        count: number of images.

    Raises:
        RecipeError: the augmentation is wrong; or it fails on all images, or on one if the recipe does not leave such
            images out.
    """
    preprocessing, _ = model_input(recipe)
    augmentation = create_augmentation(recipe.augmentation, recipe.train.seed, preprocessing)
    images: list[Pixels | None] = []
    titles: list[tuple[str, str]] = []
    failures: list[RecipeError] = []
    for index in np.linspace(0, len(split) - 1, min(count, len(split))).astype(int).tolist():
        target = split.targets[index]
        title = labels[target] if split.targets.ndim == 1 else ", ".join(labels[i] for i in np.flatnonzero(target))
        try:
            plain = augmented = prepare(split.images[index], preprocessing)
            if augmentation is not None:
                pixels = decode(split.images[index], preprocessing.colour, revision=preprocessing.revision)
                check_augmentation(augmentation, pixels, preprocessing)
                augmented = resize(augmentation(image=pixels)["image"], preprocessing)
        except InvalidImageError:
            images += [None, None]
            titles += [(title, "unreadable")] * 2
            continue
        except RecipeError as exc:
            failures.append(RecipeError(f"{split.image_name(index)}: {exc}"))
            images += [plain, None]
            titles += [(title, "original"), (title, "augmentation fails")]
            continue
        images += [plain, augmented]
        titles += [(title, "original"), (title, "augmented")]
    if failures and (recipe.data.on_unreadable == "stop" or not any(title[1] == "augmented" for title in titles)):
        raise failures[0]
    return contact_sheet(images, titles)
