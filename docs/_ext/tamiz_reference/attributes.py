"""The attributes of one class or enumeration, from its docstring."""

from __future__ import annotations

import enum
from importlib import import_module

from .docstrings import entries


def attributes_reference(place: str) -> str:
    """A definition list of a class's attributes; of an enumeration, with each value.

    Args:
        place: ``module:Class``.
    """
    module, _, name = place.partition(":")
    owner = getattr(import_module(module), name)
    shown = []
    for attribute, text in entries(owner).items():
        value = getattr(owner, attribute, None)
        title = f"`{value.value}` {attribute}" if isinstance(value, enum.Enum) else f"`{attribute}`"
        shown.append(f"{title}\n: {text}\n")
    return "\n".join(shown)
