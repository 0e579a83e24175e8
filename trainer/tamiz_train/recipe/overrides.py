"""Keys of a recipe that environment variables and ``--set`` change before the recipe is validated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tamiz.arguments import check_list, check_type
from tamiz.errors import RecipeError, cut, suggest

from .data import DATA_KINDS
from .document import parse
from .keys import data_kind, inner_section, section_of
from .recipe import Recipe

OTHER_TOOLS_VARIABLES = {"MLFLOW_TRACKING_URI": "tracking.uri", "MLFLOW_EXPERIMENT_NAME": "tracking.experiment"}
"""Environment variables of other tools that set a key; ``TAMIZ_<SECTION>__<KEY>`` takes precedence over them."""

MAX_SHOWN = 100
"""The number of characters of a setting or of a wrong value that a message shows."""


def check_overrides(settings: Sequence[str]) -> None:
    """Check that settings are a list of strings.

    Raises:
        UsageError: they are something else.
    """
    check_list("overrides", settings, "a list of strings such as train.epochs=3")
    for index, setting in enumerate(settings):
        check_type(f"overrides[{index}]", setting, str, "a string such as train.epochs=3")


@dataclass(frozen=True)
class _Override:
    source: str
    path: tuple[str, ...]
    value: Any


def apply_overrides(document: dict[str, Any], settings: Sequence[str], environment: Mapping[str, str]) -> None:
    """Change the keys of a recipe, in place.

    The value ``null`` removes a key, unless null is one of its values. If ``data.kind`` changes, the keys of the old
    kind that the new one does not have are removed.

    Args:
        document: the recipe as it was read.
        settings: ``key=value`` strings of the command line, which take precedence over the environment.
        environment: the environment variables.

    Raises:
        RecipeError: a variable or a string names no key, or its value is not YAML.
    """
    kind, data = data_kind(document), document.get("data")
    written = set(data) if isinstance(data, dict) else set()
    overrides = [*_from_environment(environment), *map(_from_setting, settings)]
    for override in overrides:
        _set(document, override)
    if data_kind(document) != kind and document.get("data") is data and isinstance(data, dict):
        _leave_kind(data, kind, written - {override.path[1] for override in overrides if override.path[0] == "data"})
    for override in overrides:
        if override.value is None:
            _remove_unless_null_is_a_value(document, override.path)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Override]:
    """What the environment sets; Tamiz's own variables come last and so take precedence."""
    for name, key in OTHER_TOOLS_VARIABLES.items():
        if name in environment:
            # Text, not YAML: an experiment named 2024 must not become a number.
            yield _Override(name, tuple(key.split(".")), environment[name])
    plain_keys = {name for name, field in Recipe.model_fields.items() if inner_section(field.annotation) is None}
    for name, value in sorted(environment.items()):
        if not name.startswith("TAMIZ_"):
            continue
        path = tuple(name.removeprefix("TAMIZ_").lower().split("__"))
        section = path[0]
        # A variable named after a whole section, such as TAMIZ_DATA, sets no key and is ignored.
        if len(path) == 1 and section not in plain_keys:
            continue
        if section not in Recipe.model_fields:
            hint = suggest(section, Recipe.model_fields)
            raise RecipeError(f"environment variable {name}: a recipe has no section {section!r}{hint}")
        yield _Override(name, path, _parse(value, name))


def _from_setting(setting: str) -> _Override:
    key, equals, value = setting.partition("=")
    source = f"--set {cut(setting, MAX_SHOWN)}"
    if not equals or not key.strip():
        raise RecipeError(f"{source}: write key=value, such as train.epochs=3")
    return _Override(source, tuple(key.strip().split(".")), _parse(value, source))


def _parse(value: str, source: str) -> Any:
    try:
        return parse(value)
    except yaml.YAMLError as exc:
        raise RecipeError(f"{source}: the value is not valid YAML") from exc


def _set(document: dict[str, Any], override: _Override) -> None:
    *parents, last = override.path
    section = document
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise RecipeError(f"{override.source}: {parent} is a value, not a section")
        section = child
    section[last] = override.value


def _leave_kind(data: dict[str, Any], kind: str, written: set[str]) -> None:
    old, new = DATA_KINDS.get(kind), DATA_KINDS.get(str(data.get("kind")))
    if old and new:
        for key in written & (old.model_fields.keys() - new.model_fields.keys()):
            del data[key]


def _remove_unless_null_is_a_value(document: dict[str, Any], path: tuple[str, ...]) -> None:
    section = section_of(path, document)
    field = section.model_fields.get(path[-1]) if section else None
    if field is not None and type(None) in getattr(field.annotation, "__args__", ()):
        return
    parent: Any = document
    for part in path[:-1]:
        parent = parent.get(part) if isinstance(parent, dict) else None
    # A later override may have set it again.
    if isinstance(parent, dict) and parent.get(path[-1]) is None:
        parent.pop(path[-1], None)
