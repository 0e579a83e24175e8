"""The keys of a recipe: which section describes the keys at each level of the document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_origin

from pydantic import BaseModel

from .data import DATA_KINDS
from .recipe import Recipe


def section_of(path: Sequence[str], document: Mapping[str, Any]) -> type[BaseModel] | None:
    """The section that describes the last key of a path.

    Args:
        path: the keys from the top of the recipe, such as ``("train", "optimizer", "lr")``.
        document: the recipe, whose ``data.kind`` selects the section of the data.

    Returns:
        the class of the section; None if the key belongs to a free mapping such as ``options``, or to no section.
    """
    section: type[BaseModel] | None = Recipe
    for part in path[:-1]:
        if part == "data" and section is Recipe:
            section = DATA_KINDS.get(data_kind(document))
        else:
            field = section.model_fields.get(part) if section else None
            section = inner_section(field.annotation) if field else None
    return section


def paths_of(key: str, document: Mapping[str, Any]) -> list[str]:
    """The dotted paths of a key in all sections, such as ``train.epochs`` for ``epochs``.

    Args:
        key: the last key of the paths.
        document: the recipe, whose ``data.kind`` selects the section of the data.
    """

    def search(section: type[BaseModel], prefix: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if name == key:
                yield prefix + name
            inner = inner_section(field.annotation)
            if section is Recipe and name == "data":
                inner = DATA_KINDS.get(data_kind(document))
            # A list of sections, such as that of the phases, has no key for each.
            if inner and get_origin(field.annotation) is not tuple:
                yield from search(inner, f"{prefix}{name}.")

    return list(search(Recipe, ""))


def data_kind(document: Mapping[str, Any]) -> str:
    """The value of ``data.kind``; empty if there is none."""
    data = document.get("data")
    return str(data.get("kind", "")) if isinstance(data, Mapping) else ""


def inner_section(annotation: Any) -> type[BaseModel] | None:
    """The section class in a type annotation; None if the annotated field is a plain value."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in options if isinstance(item, type) and issubclass(item, BaseModel)), None)
