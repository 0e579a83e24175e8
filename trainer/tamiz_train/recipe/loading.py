"""Loading a recipe: from a YAML file, environment variables and the command line, with all problems in one error.

A recipe is found by name among the recipes of this package (``recipes/*.yaml``), or by the path of a file. The command
line (``--set train.epochs=3``) takes precedence over the environment (``TAMIZ_TRAIN__EPOCHS=3``), and the environment
over the YAML file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tamiz.errors import RecipeError, one_line, os_reason, suggest

from .data import DATA_KINDS
from .recipe import Recipe

ENVIRONMENT = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
"""Environment variables of other tools that set a key; ``TAMIZ_<SECTION>__<KEY>`` takes precedence over them."""


def load_recipe(
    name: str | os.PathLike[str], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: the name of a shipped recipe, or the path of a YAML file.
        overrides: ``key=value`` strings; the key is a dotted path (``train.epochs=3``), the value is YAML.
        environment: environment variables that set keys, such as `os.environ`; None uses none.

    Raises:
        RecipeError: there is no such recipe, or it is invalid; the message lists all problems.
    """
    source, text = _find(name)
    try:
        document = _parse(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"recipe {source}: not YAML: {one_line(exc)}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"recipe {source}: not a mapping of keys to values")
    for variable, key, value in _environment_overrides(environment or {}):
        # The variables of other tools are plain text: an experiment may be called 2024.
        _override(document, key, value, variable, text=variable in ENVIRONMENT)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {override}: write key=value, such as train.epochs=3")
        _override(document, key.strip(), value, f"--set {override}")
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(f"recipe {source}: {_describe(exc, document)}") from exc


def shipped_recipes() -> list[str]:
    """The names of the recipes of this package."""
    folder = resources.files("tamiz_train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _find(name: str | os.PathLike[str]) -> tuple[str, str]:
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return str(path), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(f"recipe {path}: {os_reason(exc)}") from exc
    if str(name) not in shipped_recipes():
        hint = suggest(str(name), shipped_recipes())
        raise RecipeError(f"no recipe {str(name)!r}{hint}; to use your own recipe, give the path of a .yaml file")
    resource = resources.files("tamiz_train") / "recipes" / f"{name}.yaml"
    return str(name), resource.read_text(encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """Reads 1e-6 as a number, as YAML 1.2 does. PyYAML follows YAML 1.1, which requires a point in it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def _environment_overrides(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Each variable that sets a key, with the key and the value; Tamiz's own come last, so they take precedence."""
    found = [(name, key, environment[name]) for name, key in ENVIRONMENT.items() if name in environment]
    # A variable named after a whole section, such as TAMIZ_DATA, sets no key and is ignored.
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


def _override(document: dict[str, Any], key: str, value: str, source: str, *, text: bool = False) -> None:
    *parents, last = key.split(".")
    section = document
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"{source}: {parent} is a value, not a section")
        section = child
    try:
        section[last] = value if text else _parse(value)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{source}: the value is not YAML") from exc


def _describe(exc: ValidationError, document: dict[str, Any]) -> str:
    problems: dict[str, None] = {}
    for error in exc.errors(include_url=False):
        path = _yaml_path(error["loc"], document, error["type"])
        key = ".".join(path) or "recipe"
        if error["type"] == "extra_forbidden":
            problem = f"unknown key {key}{suggest(path[-1], _known_keys(path, document))}"
        elif error["type"] == "missing":
            problem = f"{key} is missing"
        else:
            message = error["msg"].removeprefix("Value error, ")
            value = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
            problem = f"{key}: {message}{value}"
        problems[problem] = None
    return "; ".join(problems)


def _yaml_path(location: tuple[int | str, ...], document: Any, error_type: str) -> list[str]:
    """The YAML keys in the location of an error, without the names of union members that pydantic adds to it."""
    path = []
    for part in location:
        is_key = isinstance(document, dict) and part in document
        if is_key or (isinstance(document, list) and isinstance(part, int)):
            document = document[part]
        elif error_type != "missing" or part is not location[-1]:
            continue
        path.append(str(part))
    return path


def _known_keys(path: list[str], document: dict[str, Any]) -> list[str]:
    """The keys that are allowed where the last key of a path stands."""
    section: type[BaseModel] | None = Recipe
    for part in path[:-1]:
        if part == "data":
            section = DATA_KINDS.get(str(document["data"].get("kind")))
        else:
            field = section.model_fields.get(part) if section else None
            section = _section(field.annotation) if field else None
    return list(section.model_fields) if section else []


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section class in a type annotation; None if the annotation is of a value."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
