"""Training augmentation: Albumentations transforms, written in a recipe by their own names."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from tamiz.errors import RecipeError, nearest

# Albumentations asks the package index for a newer release when it is imported; training needs no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
import numpy.typing as npt


def create_augmentation(transforms: Sequence[dict[str, dict[str, Any]]], seed: int) -> A.Compose:
    """Build the pipeline of a recipe's ``augmentation``.

    Args:
        transforms: each ``{name: arguments}``, as in ``{"HorizontalFlip": {"p": 0.5}}``.
        seed: of its random numbers.

    Returns:
        a pipeline that takes ``image=`` uint8 ``[height, width, 3]`` or ``[height, width]``.

    Raises:
        RecipeError: a transform or an argument that Albumentations does not know; all in one message.
    """
    built, problems = [], []
    for place, transform in enumerate(transforms):
        if len(transform) != 1:
            problems.append(f"augmentation.{place}: write one transform an entry, it holds {len(transform)}")
            continue
        ((name, arguments),) = transform.items()
        try:
            built.append(_create(name, arguments))
        except ValueError as exc:
            problems.append(f"augmentation.{place}: {exc}")
    if problems:
        raise RecipeError("; ".join(problems))
    return A.Compose(built, seed=seed)


def check_augmentation(augmentation: A.Compose, pixels: npt.NDArray[np.uint8]) -> None:
    """Try a pipeline on an image.

    Raises:
        RecipeError: it fails on the image, or gives something else than pixels, as a normalisation does.
    """
    try:
        augmented = augmentation(image=pixels)["image"]
    except Exception as exc:
        # Albumentations' and OpenCV's own errors.
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise RecipeError(f"augmentation: fails on an image of {list(pixels.shape)}: {first}") from exc
    if getattr(augmented, "dtype", None) != np.uint8 or augmented.ndim != pixels.ndim:
        raise RecipeError(
            f"augmentation: must give uint8 pixels as it takes them, and gives {augmented.dtype} "
            f"{list(augmented.shape)}; normalisation has its own key"
        )


def _create(name: str, arguments: dict[str, Any]) -> A.BasicTransform:
    known = {
        key
        for key, value in vars(A).items()
        if isinstance(value, type) and issubclass(value, A.BasicTransform) and not key.startswith("Basic")
    }
    if name not in known:
        raise ValueError(f"no transform {name!r}{nearest(name, known)}")
    with warnings.catch_warnings():
        # It only warns about an argument that it does not know, and goes on with its default.
        warnings.simplefilter("error")
        try:
            return getattr(A, name)(**arguments)
        except (Warning, TypeError, ValueError) as exc:
            raise ValueError(f"{name}: {' '.join(str(exc).split())}") from exc
