"""Recipes: one typed YAML file says all that a training run depends on.

A recipe is found by name among the package's own (`recipes/*.yaml`) or by path. A value given on the command
line (``--set train.epochs=3``) comes before the YAML's. All problems are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tamiz.errors import RecipeError, nearest
from tamiz.spec import Normalisation, Preprocessing
from tamiz_server.config import ServingSettings

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FolderData(_Section):
    """Image folders, one a class: ``root/train/<label>/…``, and beside ``train``, ``validation`` and ``test``.

    Without a ``validation`` folder, and without a ``test`` folder, that share of the training images is split
    off, the same share of each class. Without a ``train`` folder, the class folders stand in ``root`` itself.

    Attributes:
        root: the folder.
        validation_share: of the training images, where there is no ``validation`` folder.
        test_share: of the images, where there is no ``test`` folder.
        subset_size: train on this many images, drawn by the seed; None for all.
        on_broken: an image that cannot be read is left out and named (``skip``) or ends the run (``stop``).
    """

    kind: Literal["folder"]
    root: Path
    validation_share: Share = 0.1
    test_share: Share = 0.2
    subset_size: PositiveInt | None = None
    on_broken: Literal["skip", "stop"] = "stop"


class TorchvisionData(_Section):
    """A data set that torchvision knows and downloads into ``root``.

    Attributes:
        name: of the data set in torchvision.
        root: the folder that holds it, or will.
        validation_share: of its training images.
        subset_size: train on this many images, drawn by the seed; None for all.
        on_broken: as for folders; these images are never broken.
    """

    kind: Literal["torchvision"]
    name: Literal["FashionMNIST", "MNIST", "CIFAR10"]
    root: Path
    validation_share: Share = 0.1
    subset_size: PositiveInt | None = None
    on_broken: Literal["skip", "stop"] = "stop"


class ModelSettings(_Section):
    """Which network is trained, and from which weights.

    Attributes:
        name: ``lenet5``, ``mlp``, or any model of timm.
        pretrained: begin with timm's weights, which are downloaded.
        weights: begin with this local state dict (``.safetensors``, or ``.pt`` read with ``weights_only``); a
            head of another number of classes is left out.
        options: further arguments of ``timm.create_model``.
    """

    name: str
    pretrained: bool = False
    weights: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> ModelSettings:
        if self.pretrained and self.weights:
            raise ValueError("give pretrained or weights, not both")
        return self


class OptimizerSettings(_Section):
    """An optimizer of ``torch.optim`` by name, with its arguments."""

    name: str = "AdamW"
    lr: Annotated[float, Field(gt=0)]
    options: dict[str, Any] = Field(default_factory=dict)


class ScheduleSettings(_Section):
    """A schedule of ``torch.optim.lr_scheduler`` by name, with its arguments.

    ``OneCycleLR`` and others that take ``total_steps`` get the run's and go by the step, all others by the
    epoch. ``ReduceLROnPlateau`` watches the validation accuracy.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainSettings(_Section):
    """How the network is trained.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: see `OptimizerSettings`.
        schedule: see `ScheduleSettings`; None for a constant rate.
        label_smoothing: of the cross-entropy.
        shuffle: new order of the training images each epoch.
        seed: of the split, the order, the augmentation and the first weights.
        precision: Lightning's: ``32-true``, ``bf16-mixed``, ``16-mixed``. Evaluation is always in float32.
        device: Lightning's accelerator: ``auto``, ``cpu``, ``cuda``.
        num_workers: processes that load images.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: OptimizerSettings
    schedule: ScheduleSettings | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    shuffle: bool = True
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_workers: Annotated[int, Field(ge=0)] = 0


class TrackingSettings(_Section):
    """Where MLflow keeps the run.

    Attributes:
        uri: of the tracking store; None tracks nothing.
        experiment: its name; the recipe's name where None.
    """

    uri: str | None = "sqlite:///mlflow.db"
    experiment: str | None = None


class Recipe(_Section):
    """All that a training run depends on.

    Attributes:
        name: of the run's folder and, unless told otherwise, of the model.
        data: the images.
        preprocessing: how every image is brought to the model's size; published with each version.
        normalisation: what the network does to its input first.
        augmentation: Albumentations transforms by name with their arguments, for training only.
        model: the network.
        train: how it is trained.
        serving: how Triton serves it, where its model is published for the first time.
        tracking: MLflow.
        runs_dir: where run folders are made.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    data: Annotated[FolderData | TorchvisionData, Field(discriminator="kind")]
    preprocessing: Preprocessing
    normalisation: Normalisation
    augmentation: tuple[dict[str, dict[str, Any]], ...] = ()
    model: ModelSettings
    train: TrainSettings
    serving: ServingSettings = ServingSettings()
    tracking: TrackingSettings = TrackingSettings()
    runs_dir: Path = Path("runs")

    @model_validator(mode="after")
    def _channels_fit(self) -> Recipe:
        channels, given = self.preprocessing.channels, self.normalisation
        if not len(given.mean) == len(given.std) == channels:
            raise ValueError(
                f"normalisation: preprocessing.colour {self.preprocessing.colour} has {channels} channels, so give "
                f"{channels} means and standard deviations"
            )
        return self

    def with_absolute_paths(self) -> Recipe:
        """The same recipe for a reader in any folder."""
        return self.model_copy(update={"data": self.data.model_copy(update={"root": self.data.root.absolute()})})

    def to_yaml(self) -> str:
        """YAML that reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("tamiz_train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        name: of a shipped recipe, or the path of a YAML file.
        overrides: ``key=value`` with the key's path (``train.epochs=3``) and the value in YAML.

    Raises:
        RecipeError: there is no such recipe, or anything in it is wrong; all problems in one message.
    """
    source, text = _find(name)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"recipe {source}: not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"recipe {source}: not a mapping of keys to values")
    for override in overrides:
        _override(document, override)
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(f"recipe {source}: {_describe(exc, document)}") from exc


def _find(name: str | os.PathLike[str]) -> tuple[str, str]:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(f"recipe {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if str(name) not in shipped_recipes():
        hint = nearest(str(name), shipped_recipes())
        raise RecipeError(f"no recipe {str(name)!r}{hint}; a recipe of your own is the path of a .yaml file")
    resource = resources.files("tamiz_train") / "recipes" / f"{name}.yaml"
    return str(name), resource.read_text(encoding="utf-8")


def _override(document: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write key=value, as in train.epochs=3")
    *parents, last = key.strip().split(".")
    section = document
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: {parent} holds a value, not a section")
        section = child
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as exc:
        raise RecipeError(f"--set {override}: the value is not YAML") from exc


def _describe(exc: ValidationError, document: dict[str, Any]) -> str:
    problems = []
    for error in exc.errors(include_url=False):
        # A discriminated union puts its tag into the path, where the YAML has none.
        path = [str(part) for part in error["loc"]]
        if path[:1] == ["data"] and path[1:2] and path[1] in {"folder", "torchvision"}:
            del path[1]
        key = ".".join(path) or "recipe"
        if error["type"] == "extra_forbidden":
            problems.append(f"unknown key {key}{nearest(path[-1], _keys_beside(path, document))}")
        elif error["type"] == "missing":
            problems.append(f"{key} is missing")
        else:
            message = error["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
            problems.append(f"{key}: {message}{shown}")
    return "; ".join(problems)


def _keys_beside(path: list[str], document: dict[str, Any]) -> list[str]:
    section: Any = Recipe
    for part in path[:-1]:
        if part == "data":
            kind = document["data"].get("kind") if isinstance(document["data"], dict) else None
            section = TorchvisionData if kind == "torchvision" else FolderData
            continue
        annotation = section.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
        if section is None:
            return []
    return list(section.model_fields)
