"""The input of a network: what a recipe leaves to the model, from timm's configuration of its weights."""

from __future__ import annotations

from typing import Any

import timm

from tamiz.spec import Normalisation, Preprocessing

from .recipe import ModelSettings, Recipe
from .recipe.input import NORMALISATIONS

SMALL_SIZE = 28
"""The height and width of the input of the networks of `networks`, unless a recipe sets another size."""


def model_input(recipe: Recipe) -> tuple[Preprocessing, Normalisation]:
    """The size and the normalisation of the network's input.

    Args:
        recipe: the recipe. What it sets is used; what it leaves out is taken from ``pretrained_cfg`` of timm, and the
            size from ``model.options.img_size`` if that is set. For a grey input, the means and the standard deviations
            of the three colours are averaged.
    """
    settings, normalisation = recipe.preprocessing, recipe.normalisation
    height, width = settings.height, settings.width
    if height is None or width is None:
        height, width = _size(recipe.model)
    preprocessing = Preprocessing(**{**settings.model_dump(), "height": height, "width": width})
    if not isinstance(normalisation, Normalisation):
        named = NORMALISATIONS[normalisation] if normalisation is not None else _normalisation(recipe.model)
        normalisation = named if preprocessing.channels == 3 else _grey(named)
    return preprocessing, normalisation


def model_configuration(name: str) -> Any:
    """Timm's configuration of the weights of a model, with its size and normalisation; None if timm has no such one."""
    return timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None


def _size(model: ModelSettings) -> tuple[int, int]:
    size = model.options.get("img_size")
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    if (configuration := model_configuration(model.name)) is None:
        return SMALL_SIZE, SMALL_SIZE
    _, height, width = configuration.input_size
    return int(height), int(width)


def _normalisation(model: ModelSettings) -> Normalisation:
    if (configuration := model_configuration(model.name)) is None:
        return NORMALISATIONS["inception"]
    return Normalisation(mean=configuration.mean, std=configuration.std)


def _grey(normalisation: Normalisation) -> Normalisation:
    mean, std = (round(sum(values) / len(values), 6) for values in (normalisation.mean, normalisation.std))
    return Normalisation(mean=(mean,), std=(std,))
