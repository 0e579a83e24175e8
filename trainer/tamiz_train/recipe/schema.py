"""The JSON schema of recipes, by which editors complete keys and mark mistakes."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from .recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a recipe, with the description of every key."""
    schema = Recipe.model_json_schema()
    # A recipe without a name has that of its file.
    schema["required"].remove("name")
    models = {model.__name__: model for model in _models(Recipe)}
    for name, part in [("Recipe", schema), *schema["$defs"].items()]:
        if name in models:
            texts = _descriptions(models[name])
            part["description"] = _first_paragraph(models[name])
            for key, field in part.get("properties", {}).items():
                if key in texts:
                    field["description"] = texts[key]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Tamiz recipe"}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation)
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def _first_paragraph(model: type[BaseModel]) -> str:
    return _plain(inspect.cleandoc(model.__doc__ or "").split("\n\n")[0])


def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a section and of the sections that it extends say of each key."""
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        _, attributes, entries = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        if attributes and issubclass(owner, BaseModel) and owner is not BaseModel:
            for entry in re.split(r"\n(?=\S)", textwrap.dedent(entries)):
                key, _, text = entry.partition(": ")
                found[key] = _plain(text)
    return found


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
