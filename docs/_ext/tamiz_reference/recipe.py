"""The keys of a recipe: types from the JSON schema of its pydantic models, texts from their docstrings."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from .docstrings import entries, prose


def recipe_reference() -> str:
    """A section for each part of a recipe, with every key: its type, its default, and what it does."""
    from tamiz_train.recipe import Recipe

    sections = list(_sections("", Recipe))
    text = "\n".join(line for path, model in sections for line in _section(path, model))
    # A docstring names a class; the reader of a recipe knows the section by its key.
    for path, model in sections[1:]:
        text = text.replace(f"`{model.__name__}`", f"`kind: {_kind(model)}`" if _kind(model) else f"`{path}`")
    return text


def _sections(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each section of a recipe with the path of its key, in the order of the keys."""
    yield path, model
    for key, field in model.model_fields.items():
        place = f"{path}.{key}" if path else key
        for inner in _models(field.annotation):
            yield from _sections(f"{place}[]" if "tuple" in str(field.annotation) else place, inner)


def _section(path: str, model: type[BaseModel]) -> Iterator[str]:
    kind = _kind(model)
    yield f"## {f'`{path}`' if path else 'Top level'}{f', `kind: {kind}`' if kind else ''}\n"
    yield f"{prose(model)}\n"
    properties = model.model_json_schema()["properties"]
    descriptions = _descriptions(model)
    for key, field in model.model_fields.items():
        if kind and key == "kind":
            continue
        text = descriptions.get(key, "")
        facts = "a section, see below" if any(_models(field.annotation)) else _type(properties[key])
        # What the text says of the range and of the default need not be said twice.
        words, comma, limits = facts.partition(", ")
        facts = words if limits in text else words + comma + limits
        if field.is_required():
            facts += "; required"
        elif "default" not in text.lower():
            facts += _default(properties[key])
        if not text:
            raise KeyError(f"{model.__name__} does not describe its key {key!r} in the Attributes of its docstring")
        yield f"`{f'{path}.{key}' if path else key}`\n: *{facts}.* {text}\n"


def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The entries of the docstrings of a model and of those that it inherits from; its own come first."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            found |= entries(owner)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(typing.get_args(field.annotation)[0]) if field else ""


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_plural(_type(schema['items']))}" if "items" in schema else "list of values"
    if kind == "object":
        return "mapping"
    if kind is None:
        return "any value"
    name: str = {"string": "text", "boolean": "`true` or `false`", "null": "`null`"}.get(kind, kind)
    if schema.get("format") == "path":
        name = "path"
    return name + _range(schema)


def _plural(name: str) -> str:
    word, comma, limits = name.partition(",")
    return f"{word if word.endswith('g') or '`' in word else word + 's'}{comma}{limits}"


def _range(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "pattern": "matching `{}`",
    }
    limits = [text.format(schema[key]) for key, text in words.items() if key in schema]
    return f", {' and '.join(limits)}" if limits else ""


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return "; default: empty"
    value = schema["default"]
    if isinstance(value, dict):
        return "; every key has a default"
    if value in ([], {}):
        return "; default: empty"
    return f"; default `{value if isinstance(value, str) else json.dumps(value)}`"
