"""Training augmentation: Albumentations transforms, which a recipe gives by name."""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from collections.abc import Sequence
from importlib import resources
from typing import Any

import yaml

from tamiz.errors import RecipeError, first_line, one_line, suggest
from tamiz.spec import Preprocessing

# On import, Albumentations asks the package index for a newer release; training must not need a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import numpy as np
import numpy.typing as npt

NONE = "none"
"""The name of the empty set of transforms."""


def create_augmentation(
    transforms: str | Sequence[dict[str, dict[str, Any]]], seed: int, preprocessing: Preprocessing
) -> A.Compose | None:
    """Create the pipeline of a recipe's key ``augmentation``.

    Args:
        transforms: a list of ``{name: arguments}``, such as ``{"HorizontalFlip": {"p": 0.5}}``; or the name of a
            shipped set of transforms.
        seed: the seed of the pipeline's random numbers.
        preprocessing: the size of the network's input, which a transform that needs a size has unless it is given one.

    Returns:
        a pipeline that is called with ``image=``, uint8 ``[height, width, 3]`` or ``[height, width]``; None if there
        are no transforms.

    Raises:
        RecipeError: a set, a transform or an argument is unknown; the message lists all problems.
    """
    if isinstance(transforms, str):
        transforms = _read_set(transforms)
    if not transforms:
        return None
    created, problems = [], []
    for index, transform in enumerate(transforms):
        if len(transform) != 1:
            problems.append(f"augmentation.{index}: write one transform per list entry, not {len(transform)}")
            continue
        ((name, arguments),) = transform.items()
        try:
            created.append(_create(name, arguments, preprocessing))
        except ValueError as exc:
            problems.append(f"augmentation.{index}: {exc}")
    if problems:
        raise RecipeError("; ".join(problems))
    return A.Compose(created, seed=seed)


def check_augmentation(augmentation: A.Compose, pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> None:
    """Try a pipeline on an image.

    Args:
        augmentation: the pipeline; its random numbers are not advanced.
        pixels: the image, uint8 ``[height, width, 3]`` or ``[height, width]``.
        preprocessing: the size of the network's input, to which the output of the pipeline is resized.

    Raises:
        RecipeError: the pipeline fails on the image; its output is not uint8 pixels, as after a normalisation; or it
            gives images a size of its own, so that they would be resized twice.
    """
    try:
        augmented = _apply_all(augmentation, pixels)
    except Exception as exc:
        # Albumentations and OpenCV raise errors of many classes.
        raise RecipeError(f"augmentation: fails on an image of {list(pixels.shape)}: {first_line(exc)}") from exc
    if getattr(augmented, "dtype", None) != np.uint8 or augmented.ndim != pixels.ndim:
        raise RecipeError(
            f"augmentation: must return uint8 pixels, but returns {augmented.dtype} {list(augmented.shape)}; to "
            "normalise the input, use the key normalisation"
        )
    size, wanted = augmented.shape[:2], (preprocessing.height, preprocessing.width)
    if size != wanted and _sets_size(augmentation, pixels, size):
        raise RecipeError(
            f"augmentation: returns images of {size[0]}x{size[1]}, which would be resized again to the "
            f"{wanted[0]}x{wanted[1]} of preprocessing; leave the size out of the augmentation, which then takes it "
            "from preprocessing, or end it with Resize: {}"
        )


def _apply_all(augmentation: A.Compose, pixels: npt.NDArray[np.uint8]) -> Any:
    """Apply every transform, whatever its probability, without advancing the random numbers of the pipeline."""
    certain = copy.deepcopy(augmentation)
    for transform in certain.transforms:
        transform.p = 1.0
    return certain(image=pixels)["image"]


def _sets_size(augmentation: A.Compose, pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> bool:
    """Whether the size of an augmented image is one that the recipe sets, rather than one that depends on the image.

    If so, an image of twice the height gets the same size.
    """
    try:
        return bool(_apply_all(augmentation, np.concatenate([pixels, pixels])).shape[:2] == size)
    except Exception:
        return False


def _read_set(name: str) -> list[dict[str, dict[str, Any]]]:
    folder = resources.files("tamiz_train") / "augmentations"
    known = sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    if name == NONE:
        return []
    if name not in known:
        raise RecipeError(f"augmentation: no set {name!r}{suggest(name, [NONE, *known])}")
    transforms: list[dict[str, dict[str, Any]]] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return transforms


def _create(name: str, arguments: dict[str, Any], preprocessing: Preprocessing) -> A.BasicTransform | A.BaseCompose:
    known = {
        key
        for key, value in vars(A).items()
        if isinstance(value, type) and issubclass(value, A.BasicTransform | A.BaseCompose) and not key.startswith("Ba")
    }
    if name not in known:
        raise ValueError(f"no transform {name!r}{suggest(name, known)}")
    if "transforms" in arguments:
        # OneOf, SomeOf, Sequential and others contain transforms.
        pairs = [pair for entry in arguments["transforms"] for pair in entry.items()]
        inner = [_create(inner_name, given, preprocessing) for inner_name, given in pairs]
        arguments = {**arguments, "transforms": inner}
    arguments = {**_missing_size(getattr(A, name), preprocessing), **arguments}
    with warnings.catch_warnings():
        # Albumentations only warns about an unknown argument, and uses its default.
        warnings.simplefilter("error")
        try:
            return getattr(A, name)(**arguments)
        except (Warning, TypeError, ValueError) as exc:
            raise ValueError(f"{name}: {one_line(exc)}") from exc


def _missing_size(transform: type[A.BasicTransform | A.BaseCompose], preprocessing: Preprocessing) -> dict[str, Any]:
    """The size of the network's input, as the arguments that a transform requires for a size."""
    height, width = preprocessing.height, preprocessing.width
    sizes = {"size": [height, width], "height": height, "width": width}
    parameters = inspect.signature(transform).parameters.values()
    required = {parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty}
    return {name: value for name, value in sizes.items() if name in required}
