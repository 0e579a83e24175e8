"""Training augmentation: Albumentations transforms, written in a recipe by their own names."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from tamiz.errors import RecipeError, suggest

# Albumentations asks the package index for a newer release when it is imported; training needs no network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
import numpy.typing as npt

NONE = "none"


def create_augmentation(transforms: str | Sequence[dict[str, dict[str, Any]]], seed: int) -> A.Compose | None:
    """Build the pipeline of a recipe's ``augmentation``.

    Args:
        transforms: each ``{name: arguments}``, as in ``{"HorizontalFlip": {"p": 0.5}}``; or the name of a set.
        seed: of its random numbers.

    Returns:
        a pipeline that takes ``image=`` uint8 ``[height, width, 3]`` or ``[height, width]``; None where there are
        no transforms.

    Raises:
        RecipeError: a set, a transform or an argument that is not known; all in one message.
    """
    if isinstance(transforms, str):
        transforms = _named(transforms)
    if not transforms:
        return None
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
    # Each of its transforms, whatever its probability; of a copy, since it draws random numbers.
    certain = copy.deepcopy(augmentation)
    for transform in certain.transforms:
        transform.p = 1.0
    try:
        augmented = certain(image=pixels)["image"]
    except Exception as exc:
        # Albumentations' and OpenCV's own errors.
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        raise RecipeError(f"augmentation: fails on an image of {list(pixels.shape)}: {first}") from exc
    if getattr(augmented, "dtype", None) != np.uint8 or augmented.ndim != pixels.ndim:
        raise RecipeError(
            f"augmentation: must give uint8 pixels as it takes them, and gives {augmented.dtype} "
            f"{list(augmented.shape)}; normalisation has its own key"
        )


def _named(name: str) -> list[dict[str, dict[str, Any]]]:
    folder = resources.files("tamiz_train") / "augmentations"
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name == NONE:
        return []
    if name not in known:
        raise RecipeError(
            f"augmentation: no set {name!r}{suggest(name, [NONE, *known])}; there are none, {', '.join(known)}"
        )
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def _create(name: str, arguments: dict[str, Any]) -> A.BasicTransform | A.BaseCompose:
    known = {
        key
        for key, value in vars(A).items()
        if isinstance(value, type) and issubclass(value, A.BasicTransform | A.BaseCompose) and not key.startswith("Ba")
    }
    if name not in known:
        raise ValueError(f"no transform {name!r}{suggest(name, known)}")
    if "transforms" in arguments:
        # OneOf, SomeOf, Sequential and the like hold others.
        inner = [_create(*pair) for entry in arguments["transforms"] for pair in entry.items()]
        arguments = {**arguments, "transforms": inner}
    with warnings.catch_warnings():
        # It only warns about an argument that it does not know, and goes on with its default.
        warnings.simplefilter("error")
        try:
            return getattr(A, name)(**arguments)
        except (Warning, TypeError, ValueError) as exc:
            raise ValueError(f"{name}: {' '.join(str(exc).split())}") from exc
