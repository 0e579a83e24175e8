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
        except (UserWarning, TypeError, ValueError) as exc:
            raise ValueError(f"{name}: {' '.join(str(exc).split())}") from exc
