"""Recipes: one typed YAML file holds everything that a training run depends on.

`load_recipe` reads one. The sections of a recipe are frozen pydantic models, one module each; their ``Attributes`` are
the reference of the recipe's keys. Nothing here imports PyTorch.
"""

from .data import CsvData, DataSettings, FolderData, ImageData, TorchvisionData, VocData
from .input import PreprocessingSettings
from .loading import load_recipe, shipped_recipes
from .model import HeadSettings, ModelSettings
from .recipe import Recipe
from .section import Section
from .tracking import TrackingSettings
from .training import OptimizerSettings, PhaseSettings, ScheduleSettings, TrainSettings

__all__ = [
    "CsvData",
    "DataSettings",
    "FolderData",
    "HeadSettings",
    "ImageData",
    "ModelSettings",
    "OptimizerSettings",
    "PhaseSettings",
    "PreprocessingSettings",
    "Recipe",
    "ScheduleSettings",
    "Section",
    "TorchvisionData",
    "TrackingSettings",
    "TrainSettings",
    "VocData",
    "load_recipe",
    "shipped_recipes",
]
