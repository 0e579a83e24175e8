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

OTHER_TOOLS_VARIABLES = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
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
    source, text = _read_source(name)
    try:
        document = _parse(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"recipe {source}: not valid YAML: {one_line(exc)}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"recipe {source}: not a mapping of keys to values")
    for variable, key, value in _environment_overrides(environment or {}):
        # Values from other tools' variables are taken as text: an experiment named 2024 must not become a number.
        _override(document, key, value, variable, as_text=variable in OTHER_TOOLS_VARIABLES)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {override}: write key=value, such as train.epochs=3")
        _override(document, key.strip(), value, f"--set {override}")
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(f"recipe {source}: {_format_problems(exc, document)}") from exc


def shipped_recipes() -> list[str]:
    """The names of the recipes of this package."""
    folder = resources.files("tamiz_train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read_source(name: str | os.PathLike[str]) -> tuple[str, str]:
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
    """Reads 1e-6 as a number, as YAML 1.2 does. PyYAML follows YAML 1.1, which requires a decimal point."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def _environment_overrides(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(variable, key, value) for each variable that sets a key.

    Tamiz's own variables come last and so take precedence.
    """
    found = [(name, key, environment[name]) for name, key in OTHER_TOOLS_VARIABLES.items() if name in environment]
    plain_keys = {name for name, field in Recipe.model_fields.items() if _section(field.annotation) is None}
    for name, value in sorted(environment.items()):
        if not name.startswith("TAMIZ_"):
            continue
        path = name.removeprefix("TAMIZ_").lower().split("__")
        section = path[0]
        # A variable named after a whole section, such as TAMIZ_DATA, sets no key and is ignored.
        if len(path) == 1 and section not in plain_keys:
            continue
        if section not in Recipe.model_fields:
            hint = suggest(section, Recipe.model_fields)
            raise RecipeError(f"environment variable {name}: a recipe has no section {section!r}{hint}")
        found.append((name, ".".join(path), value))
    return found


def _override(document: dict[str, Any], key: str, value: str, source: str, *, as_text: bool = False) -> None:
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
        section[last] = value if as_text else _parse(value)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{source}: the value is not valid YAML") from exc


def _format_problems(exc: ValidationError, document: dict[str, Any]) -> str:
    # A dict keeps the order and drops duplicates.
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
            value = "" if isinstance(error["input"], dict) else f" (got {error['input']!r})"
            problem = f"{key}: {message}{value}"
        problems[problem] = None
    return "; ".join(problems)


def _yaml_path(location: tuple[int | str, ...], document: Any, error_type: str) -> list[str]:
    """The YAML keys in the location of an error, without the names of union members that pydantic adds to it."""
    path = []
    for position, part in enumerate(location, start=1):
        is_key = isinstance(document, dict) and part in document
        if is_key or (isinstance(document, list) and isinstance(part, int)):
            document = document[part]
            path.append(str(part))
        elif error_type == "missing" and position == len(location):
            # The missing key itself is not in the document.
            path.append(str(part))
    return path


def _known_keys(path: list[str], document: dict[str, Any]) -> list[str]:
    """The keys that are allowed at the level of the path's last key."""
    section: type[BaseModel] | None = Recipe
    for part in path[:-1]:
        if part == "data":
            section = DATA_KINDS.get(str(document["data"].get("kind")))
        else:
            field = section.model_fields.get(part) if section else None
            section = _section(field.annotation) if field else None
    return list(section.model_fields) if section else []


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section class in a type annotation; None if the annotated field is a plain value."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
