"""The recipe: the top level of the YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from tamiz.spec import Normalisation, Preprocessing
from tamiz_server.config import ServingSettings

from .data import DataSettings
from .input import NormalisationName, PreprocessingKey, PreprocessingSettings
from .model import ModelSettings
from .section import Probability, Section
from .tracking import TrackingSettings
from .training import TrainSettings


class Recipe(Section):
    """Everything that a training run depends on.

    Attributes:
        name: The name of the recipe: letters, digits, ``.``, ``_`` and ``-``. Its runs are written to
            ``<runs_dir>/<name>``, and it is the default name of the published model. Default: the name of the file.
        data: The images and their labels. The key ``kind`` selects the kind of data: see `FolderData`, `CsvData`,
            `VocData` and `TorchvisionData`.
        preprocessing: How each image is brought to the size of the network's input; see `PreprocessingSettings`. A
            number is short for a square of that many pixels. Default: RGB in the size that timm gives for the model.
        normalisation: The mean and standard deviation of each channel, by which the network normalises its input, as
            ``{mean: […], std: […]}``; pixel values are scaled to 0 to 1 first. Or a name: ``imagenet``, ``inception``
            (mean and standard deviation of 0.5), ``clip``, or ``none``. Default: null, the values that timm gives for
            the model's weights; for the networks of Tamiz ``inception``.
        augmentation: The augmentation of training images: a list of Albumentations transforms, each given by its name
            and arguments, or the name of a shipped set: ``standard``, ``documents`` or ``none``. Default: none.
        model: The network; see `ModelSettings`.
        train: How the network is trained; see `TrainSettings`.
        thresholds: Multilabel only: the probability from which a label is predicted, from 0 to 1, or ``tuned``, which
            chooses for each label the threshold with the best F1 on the validation images. Default: 0.5.
        serving: How Triton serves the model; used when the model is published for the first time. See
            `ServingSettings`.
        tracking: Logging to MLflow and TensorBoard; see `TrackingSettings`.
        runs_dir: The folder in which runs are created. Default: ``runs``.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    data: Annotated[DataSettings, Field(discriminator="kind")]
    preprocessing: PreprocessingKey = PreprocessingSettings()
    normalisation: Normalisation | NormalisationName | None = None
    augmentation: str | tuple[dict[str, dict[str, Any]], ...] = ()
    model: ModelSettings
    train: TrainSettings = TrainSettings()
    thresholds: Probability | Literal["tuned"] = 0.5
    serving: ServingSettings = ServingSettings()
    tracking: TrackingSettings = TrackingSettings()
    runs_dir: Path = Path("runs")

    @model_validator(mode="after")
    def _normalisation_fits_channels(self) -> Recipe:
        channels, normalisation = self.preprocessing.channels, self.normalisation
        if (
            isinstance(normalisation, Normalisation)
            and not len(normalisation.mean) == len(normalisation.std) == channels
        ):
            raise ValueError(
                f"normalisation: preprocessing.colour {self.preprocessing.colour} has {channels} channels; set "
                f"{channels} means and standard deviations"
            )
        return self

    def with_input(self, preprocessing: Preprocessing, normalisation: Normalisation) -> Recipe:
        """The same recipe with the given input, instead of what it leaves to the model."""
        settings = PreprocessingSettings(**preprocessing.model_dump())
        return self.model_copy(update={"preprocessing": settings, "normalisation": normalisation})

    def with_absolute_paths(self) -> Recipe:
        """The same recipe with absolute paths, so that it can be read from any working directory."""
        update: dict[str, Any] = {"data": self.data.model_copy(update={"root": self.data.root.absolute()})}
        uri, local = self.tracking.uri or "", "sqlite:///"
        if uri.startswith(local):
            uri = f"{local}{Path(uri.removeprefix(local)).absolute()}"
            update["tracking"] = self.tracking.model_copy(update={"uri": uri})
        if self.model.weights is not None:
            update["model"] = self.model.model_copy(update={"weights": self.model.weights.absolute()})
        return self.model_copy(update=update)

    def to_yaml(self) -> str:
        """The recipe as YAML, which `load_recipe` reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
