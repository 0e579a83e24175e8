"""Recipes: one typed YAML file says all that a training run depends on.

A recipe is found by name among the package's own (`recipes/*.yaml`) or by path. The command line
(``--set train.epochs=3``) comes before the environment (``TAMIZ_TRAIN__EPOCHS=3``), and that before the YAML;
`load_recipe` applies the three in the opposite order. All problems are reported together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tamiz.errors import RecipeError, suggest
from tamiz.spec import Normalisation, Preprocessing
from tamiz_server.config import ServingSettings

from .settings import DATA_KINDS, DataSettings, ModelSettings, Probability, Section, TrackingSettings, TrainSettings

ENVIRONMENT = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
"""Variables of other tools that set a key of a recipe; ``TAMIZ_<SECTION>__<KEY>`` of ours comes before them."""


class Recipe(Section):
    """All that a training run depends on.

    Attributes:
        name: of the run's folder and, unless told otherwise, of the model.
        data: the images.
        preprocessing: how every image is brought to the model's size; published with each version.
        normalisation: what the network does to its input first.
        augmentation: for training only: Albumentations transforms by name with their arguments, or the name of a
            set of them (``augmentations/*.yaml``): ``standard``, ``documents``, ``none``.
        model: the network.
        train: how it is trained.
        thresholds: multilabel only: the probability at and above which a label holds; or ``tuned``, for each label
            the one of the best F1 on validation.
        serving: how Triton serves it, where its model is published for the first time.
        tracking: MLflow.
        runs_dir: where run folders are made.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    data: Annotated[DataSettings, Field(discriminator="kind")]
    preprocessing: Preprocessing
    normalisation: Normalisation
    augmentation: str | tuple[dict[str, dict[str, Any]], ...] = ()
    model: ModelSettings
    train: TrainSettings
    thresholds: Probability | Literal["tuned"] = 0.5
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
        update: dict[str, Any] = {"data": self.data.model_copy(update={"root": self.data.root.absolute()})}
        uri, local = self.tracking.uri or "", "sqlite:///"
        if uri.startswith(local):
            uri = f"{local}{Path(uri.removeprefix(local)).absolute()}"
            update["tracking"] = self.tracking.model_copy(update={"uri": uri})
        if self.model.weights is not None:
            update["model"] = self.model.model_copy(update={"weights": self.model.weights.absolute()})
        return self.model_copy(update=update)

    def to_yaml(self) -> str:
        """YAML that reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """Reads 1e-6 as a number, as YAML 1.2 does; for PyYAML, which is of YAML 1.1, it lacks a point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("tamiz_train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(
    name: str | os.PathLike[str], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Recipe:
    """Read a recipe.

    Args:
        name: of a shipped recipe, or the path of a YAML file.
        overrides: ``key=value`` with the key's path (``train.epochs=3``) and the value in YAML.
        environment: variables that set keys, as `os.environ` may hold them; None for none.

    Raises:
        RecipeError: there is no such recipe, or anything in it is wrong; all problems in one message.
    """
    source, text = _find(name)
    try:
        document = _parse(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"recipe {source}: not YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"recipe {source}: not a mapping of keys to values")
    for variable, key, value in _from_environment(environment or {}):
        # Of other tools as it stands: an experiment may be called 2024.
        _override(document, key, value, variable, text=variable in ENVIRONMENT)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {override}: write key=value, as in train.epochs=3")
        _override(document, key.strip(), value, f"--set {override}")
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(f"recipe {source}: {_describe(exc, document)}") from exc


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Each variable that sets a key, with the key and the value; Tamiz's own after those of other tools."""
    found = [(name, key, environment[name]) for name, key in ENVIRONMENT.items() if name in environment]
    # A section holds keys and no value, so TAMIZ_DATA, say, means something else to somebody else.
    values = {name for name, field in Recipe.model_fields.items() if _section(field.annotation) is None}
    for name, value in sorted(environment.items()):
        section, separator, _ = name.removeprefix("TAMIZ_").lower().partition("__")
        if not name.startswith("TAMIZ_") or (not separator and section not in values):
            continue
        if section not in Recipe.model_fields:
            hint = suggest(section, Recipe.model_fields)
            raise RecipeError(f"environment variable {name}: a recipe has no section {section!r}{hint}")
        found.append((name, name.removeprefix("TAMIZ_").lower().replace("__", "."), value))
    return found


def _find(name: str | os.PathLike[str]) -> tuple[str, str]:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(f"recipe {path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if str(name) not in shipped_recipes():
        hint = suggest(str(name), shipped_recipes())
        raise RecipeError(f"no recipe {str(name)!r}{hint}; a recipe of your own is the path of a .yaml file")
    resource = resources.files("tamiz_train") / "recipes" / f"{name}.yaml"
    return str(name), resource.read_text(encoding="utf-8")


def _override(document: dict[str, Any], key: str, value: str, source: str, *, text: bool = False) -> None:
    *parents, last = key.split(".")
    section = document
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"{source}: {parent} holds a value, not a section")
        section = child
    try:
        section[last] = value if text else _parse(value)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{source}: the value is not YAML") from exc


def _describe(exc: ValidationError, document: dict[str, Any]) -> str:
    problems: dict[str, None] = {}
    for error in exc.errors(include_url=False):
        path = _path(error["loc"], document, error["type"])
        key = ".".join(path) or "recipe"
        if error["type"] == "extra_forbidden":
            problem = f"unknown key {key}{suggest(path[-1], _keys_beside(path, document))}"
        elif error["type"] == "missing":
            problem = f"{key} is missing"
        else:
            message = error["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
            problem = f"{key}: {message}{shown}"
        problems[problem] = None
    return "; ".join(problems)


def _path(place: tuple[int | str, ...], document: Any, kind: str) -> list[str]:
    """The keys of the YAML on the way to an error: pydantic tells the alternatives of a union among them."""
    path = []
    for part in place:
        if (isinstance(document, dict) and part in document) or (isinstance(document, list) and isinstance(part, int)):
            document = document[part]
        elif kind != "missing" or part is not place[-1]:
            continue
        path.append(str(part))
    return path


def _keys_beside(path: list[str], document: dict[str, Any]) -> list[str]:
    section: type[BaseModel] | None = Recipe
    for part in path[:-1]:
        if part == "data":
            section = DATA_KINDS.get(str(document["data"].get("kind")))
        else:
            field = section.model_fields.get(part) if section else None
            section = _section(field.annotation) if field else None
    return list(section.model_fields) if section else []


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds; None where it holds a value."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
