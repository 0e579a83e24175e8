"""Loading a recipe: from a YAML file, environment variables and the command line, with all problems in one error.

A recipe is found by name among the recipes of this package (``recipes/*.yaml``), or by the path of a file. The command
line (``--set train.epochs=3``) takes precedence over the environment (``TAMIZ_TRAIN__EPOCHS=3``), and the environment
over the YAML file.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tamiz.arguments import check_path, check_type
from tamiz.errors import RecipeError, cut, one_line, os_reason, suggest

from .data import DATA_KINDS
from .document import parse
from .keys import paths_of, section_of
from .overrides import MAX_SHOWN, apply_overrides, check_overrides
from .recipe import Recipe


def load_recipe(
    name: str | os.PathLike[str], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: the name of a shipped recipe, or the path of a YAML file.
        overrides: ``key=value`` strings; the key is a dotted path (``train.epochs=3``), the value is YAML.
        environment: environment variables that set keys, such as `os.environ`; None uses none.

    Raises:
        UsageError: an argument is of the wrong type.
        RecipeError: there is no such recipe, or it is invalid; the message lists all problems.
    """
    check_path("name", name, "the name of a shipped recipe, or the path of a .yaml file")
    check_overrides(overrides)
    check_type("environment", environment, (Mapping, type(None)), "a mapping such as os.environ, or None")
    source, text = read_source(name)
    try:
        document = parse(text)
    except yaml.YAMLError as exc:
        raise RecipeError(f"recipe {source}: not valid YAML: {one_line(exc)}") from exc
    if not isinstance(document, dict):
        raise RecipeError(f"recipe {source}: not a mapping of keys to values")
    if isinstance(size := document.get("preprocessing"), int):
        # Written out, so that the command line can set another key of the section.
        document["preprocessing"] = {"height": size, "width": size}
    document.setdefault("name", name_from(source))
    apply_overrides(document, overrides, environment or {})
    try:
        return Recipe.model_validate(document)
    except ValidationError as exc:
        raise RecipeError(f"recipe {source}: {_format_problems(exc, document)}") from exc


def shipped_recipes() -> list[str]:
    """The names of the recipes of this package."""
    folder = resources.files("tamiz_train") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_source(name: str | os.PathLike[str]) -> tuple[str, str]:
    """The name or path of a recipe for messages, and its text.

    Raises:
        RecipeError: there is no such recipe, or the file cannot be read.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return str(path), path.read_text(encoding="utf-8")
        except FileNotFoundError as exc:
            hint = suggest(str(path), _known_recipes(path))
            raise RecipeError(f"recipe {path}: {os_reason(exc)}{hint}") from exc
        except (OSError, UnicodeDecodeError) as exc:
            raise RecipeError(f"recipe {path}: {os_reason(exc)}") from exc
    if str(name) not in shipped_recipes():
        own = [f"{name}{suffix}" for suffix in (".yaml", ".yml") if path.with_name(path.name + suffix).is_file()]
        hint = (
            suggest(str(name), own or _known_recipes(path)) + "; to use your own recipe, give the path of a .yaml file"
        )
        if not own and (path.is_dir() or path.suffix.lower() == ".csv"):
            command = shlex.join(["tamiz", "recipe", "new", str(path)])
            hint = f"; to write a recipe for the images in it, type: {command}"
        raise RecipeError(f"no recipe {str(name)!r}{hint}")
    resource = resources.files("tamiz_train") / "recipes" / f"{name}.yaml"
    return str(name), resource.read_text(encoding="utf-8")


def _known_recipes(path: Path) -> list[str]:
    """What a wrong name or path of a recipe may mean: a shipped recipe, or a file in the same folder."""
    try:
        files = [str(file) for file in path.parent.iterdir() if file.suffix in {".yaml", ".yml"}]
    except OSError:
        files = []
    return [*shipped_recipes(), *files]


def describe_recipe(name: str) -> str:
    """What a shipped recipe is: the first sentence of the comments at its head."""
    comments = []
    for line in read_source(name)[1].splitlines():
        if not line.strip("# ") or not line.startswith("#"):
            break
        comments.append(line.strip("# "))
    return re.split(r"(?<=\.)\s", " ".join(comments), maxsplit=1)[0]


def name_from(source: str) -> str:
    """The name of a recipe that gives none: that of its file."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(source).stem).strip("-_.") or "recipe"


def _format_problems(exc: ValidationError, document: dict[str, Any]) -> str:
    errors = exc.errors(include_url=False)
    paths = [_yaml_path(error["loc"], document, error["type"]) for error in errors]
    # A dict keeps the order and drops duplicates.
    problems: dict[str, None] = {}
    for error, path in zip(errors, paths, strict=True):
        if isinstance(error["input"], dict) and any(path == other[: len(path)] != other for other in paths):
            # The key takes either a section or a name. It has a section, whose own problems are reported.
            continue
        key = ".".join(path) or "recipe"
        if error["type"] == "extra_forbidden":
            problem = _unknown_key(path, document)
        elif error["type"] == "missing":
            problem = f"{key} is missing"
        else:
            message = error["msg"].removeprefix("Value error, ")
            value = "" if isinstance(error["input"], dict) else f" (got {cut(repr(error['input']), MAX_SHOWN)})"
            problem = f"{key}: {message}{value}"
        problems[problem] = None
    return "; ".join(problems)


def _unknown_key(path: list[str], document: dict[str, Any]) -> str:
    key = ".".join(path)
    if path[0] == "data" and len(path) == 2:
        kinds = [kind for kind, section in DATA_KINDS.items() if path[1] in section.model_fields]
        if kinds:
            return (
                f"{key} belongs to data.kind {' and '.join(kinds)}, not to {document['data']['kind']}; remove the key, "
                f"or add --set {key}=null"
            )
    section = section_of(path, document)
    hint = suggest(path[-1], section.model_fields) if section else ""
    if elsewhere := paths_of(path[-1], document):
        hint = f"; did you mean {' or '.join(map(repr, elsewhere))}?"
    return f"unknown key {cut(key, MAX_SHOWN)}{hint}"


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
