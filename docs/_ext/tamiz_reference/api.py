"""The Python API of a package: every name of its ``__all__``, through autodoc."""

from __future__ import annotations

import inspect
import textwrap
from importlib import import_module

_KINDS = ("Classes and functions", "Errors", "Values")


def api_reference(package: str) -> str:
    """Autodoc directives for every public name of a package, grouped by kind.

    Args:
        package: name of an importable package with ``__all__``.
    """
    module = import_module(package)
    groups: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in module.__all__:
        kind, directive = _classify(getattr(module, name))
        groups[kind].append(f".. {directive}:: {package}.{name}")
    # What a page is about comes first: the clients, before what they return.
    parts = [f"```{{py:module}} {package}\n```\n"]
    for kind, directives in groups.items():
        if directives:
            body = textwrap.indent("\n\n".join(directives), "")
            parts.append(f"## {kind} of {package}\n\n```{{eval-rst}}\n{body}\n```\n")
    return "\n".join(parts)


def _classify(value: object) -> tuple[str, str]:
    if isinstance(value, type) and issubclass(value, BaseException):
        return "Errors", "autoexception"
    if inspect.isclass(value):
        return "Classes and functions", "autoclass"
    if inspect.isroutine(value):
        return "Classes and functions", "autofunction"
    return "Values", "autodata"
